//! The scenarios that cannot be with a pool over MPI.

const HANDLE: &str = "it sends a handle, which belongs to one host";
const AGAIN: &str = "it makes several pools, and MPI can be started once in a process";
const NAME: &str = "it knows the process that has the pool by its name, which rank 0 does not have";
const CHILDREN: &str = "it kills the workers that are children of rank 0, and rank 0 has none";
const COUNT: &str = "it counts the processes of a pool of one worker, which begins with one on each of two ranks";
const PROGRAM: &str = "it sets the program of workers, which is that of their host";
const LONG: &str = "it takes a minute or more without optimisation on a busy machine";

const ALL: &[(&str, &str)] = &[
    ("awaiting::a_callback_is_told_of_the_end_of_the_pool", HANDLE),
    ("awaiting::tasks_are_awaited_on_any_executor", HANDLE),
    ("awaiting::tasks_are_waited_for_among_other_things", HANDLE),
    ("chunks::a_killed_worker_loses_no_result_that_it_had", HANDLE),
    ("chunks::a_million_items_are_mapped_in_order", LONG),
    ("chunks::imap_keeps_the_order_and_reads_only_its_window", LONG),
    ("chunks::memory_stays_flat_over_many_items", LONG),
    ("chunks::short_items_do_not_wait_behind_a_long_one", HANDLE),
    ("crash::a_killed_worker_fails_its_task_alone_and_is_replaced", HANDLE),
    ("crash::a_task_with_handles_is_not_run_twice", HANDLE),
    ("crash::workers_killed_at_any_moment_cost_the_tasks_that_they_run", CHILDREN),
    ("hostile::a_flood_of_well_formed_packets_costs_its_own_task_only", AGAIN),
    ("hostile::a_forked_copy_of_the_program_is_told_and_does_no_harm", HANDLE),
    ("hostile::a_task_that_writes_over_the_shared_memory_costs_itself_only", AGAIN),
    ("limits::a_pool_is_resized_while_it_works", HANDLE),
    ("limits::a_queued_task_can_be_cancelled_and_never_runs", HANDLE),
    ("limits::a_running_task_can_be_cancelled", HANDLE),
    ("limits::a_task_knows_its_deadline", AGAIN),
    ("limits::dropping_cancels_if_that_was_asked_for", HANDLE),
    ("limits::tasks_of_a_higher_priority_go_first", HANDLE),
    ("limits::time_in_the_queue_does_not_count", HANDLE),
    ("limits::workers_are_replaced_after_so_many_tasks", AGAIN),
    ("maps::map_gives_the_first_error_and_runs_the_rest", HANDLE),
    ("peers::a_callback_drops_the_last_handle_of_the_pool", HANDLE),
    ("peers::a_pool_whose_initializer_never_returns_can_be_ended", HANDLE),
    ("peers::a_task_that_ignores_sigterm_is_ended_all_the_same", HANDLE),
    ("peers::a_trap_at_any_step_of_a_task_costs_that_task", NAME),
    ("peers::workers_that_kill_each_other_cost_what_they_run", AGAIN),
    ("report::a_running_task_is_shown_while_it_runs", HANDLE),
    ("report::failures_are_named_with_their_function_and_index", COUNT),
    ("shutdown::a_closed_pool_ends_whoever_saw_its_last_result", AGAIN),
    ("shutdown::a_pool_can_be_dropped_before_its_workers_have_started", AGAIN),
    ("shutdown::a_worker_that_will_not_exit_is_killed_after_a_while", HANDLE),
    ("shutdown::close_and_join_let_the_tasks_be_done_first", AGAIN),
    ("shutdown::destructors_of_a_thread_can_use_pools_and_drop_them", AGAIN),
    ("shutdown::dropping_a_pool_ends_idle_and_busy_workers", HANDLE),
    ("shutdown::dropping_a_pool_fails_what_was_waiting", HANDLE),
    ("shutdown::sixty_four_busy_workers_die_with_their_parent", HANDLE),
    ("shutdown::terminate_ends_a_task_that_hangs", HANDLE),
    ("shutdown::workers_die_with_the_process_that_has_the_pool", HANDLE),
    ("start::a_failing_initializer_is_an_error_after_bounded_tries", AGAIN),
    ("start::workers_have_what_was_set_for_them", HANDLE),
    ("start::workers_ignore_ctrl_c_unless_told_otherwise", AGAIN),
    ("start::workers_run_the_program_that_is_named", PROGRAM),
    ("start::workers_that_never_start_fail_what_waits_for_them_and_the_pool_ends", AGAIN),
    ("tasks::a_dropped_task_runs_all_the_same", HANDLE),
    ("tasks::a_pool_that_cannot_start_its_workers_leaves_none", AGAIN),
    ("tasks::a_result_of_a_gibibyte_arrives", LONG),
    ("tasks::a_value_can_be_taken_once_and_waited_for_in_pieces", HANDLE),
    ("tasks::large_values_and_handles_go_both_ways", HANDLE),
];

/// Why a scenario cannot be.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    ALL.iter().find_map(|(skipped, why)| (*skipped == name).then_some(*why))
}
