use super::*;

#[test]
fn an_answer_that_is_lost_costs_its_call_and_no_other() {
    let mut announced = Announced::default();
    let lost = || Err(RecvError::Truncated);
    assert!(announced.check(lost()).is_err(), "nothing says whose it was");
    let done = |call| Response { call, body: Body::Done };
    let follows = |call| Response { call, body: Body::Follows };
    assert!(matches!(announced.check(Ok(Some(vec![done(1), follows(2)]))), Ok(Some(_))));
    assert!(matches!(announced.check(Ok(None)), Ok(None)));
    let Ok(Some(answers)) = announced.check(lost()) else { panic!("it costs one call") };
    assert!(matches!(answers[..], [Response { call: 2, body: Body::Failed(CallError::Busy(_)) }]));
    assert!(matches!(announced.check(Ok(Some(vec![follows(3)]))), Ok(Some(_))));
    assert!(matches!(announced.check(Ok(Some(vec![done(3)]))), Ok(Some(_))));
    assert!(announced.check(lost()).is_err(), "the one that was announced has come");
}
