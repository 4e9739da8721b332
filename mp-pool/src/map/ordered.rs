//! All values of a map, in the order of the items.

use mp_core::ProcessFn;
use serde::Serialize;

use super::feed::Feed;
use crate::batch::Decoder;
use crate::error::TaskError;

/// Puts the values into the order of their items; the first error, in that order, is the result.
pub(super) fn in_order<F: ProcessFn, Items: Iterator<Item: Serialize>>(
    mut feed: Feed<'_, F, Items>,
) -> Result<Vec<F::Output>, TaskError> {
    // Values that follow each other, from a place on.
    let mut parts: Vec<(usize, Vec<F::Output>)> = Vec::new();
    let mut first_error: Option<(usize, TaskError)> = None;
    loop {
        feed.read_ahead(0);
        let Some(delivery) = feed.next() else { break };
        let mut values = Decoder::new(delivery);
        // The end of a part that goes on here.
        let mut part = None;
        while let Some((index, value)) = values.next::<F::Output>() {
            match value {
                Ok(value) => {
                    let place = match part {
                        Some(place) => place,
                        None => *part.insert(part_that_goes_on(&mut parts, index, values.left() + 1)),
                    };
                    parts[place].1.push(value);
                }
                Err(error) => {
                    part = None;
                    if first_error.as_ref().is_none_or(|(first, _)| index < *first) {
                        first_error = Some((index, error));
                    }
                }
            }
        }
    }
    if let Some((_, error)) = first_error {
        return Err(error);
    }
    parts.sort_unstable_by_key(|(first, _)| *first);
    let mut parts = parts.into_iter();
    let mut values = parts.next().map_or_else(Vec::new, |(_, values)| values);
    values.reserve_exact(parts.as_slice().iter().map(|(_, values)| values.len()).sum());
    parts.for_each(|(_, mut part)| values.append(&mut part));
    Ok(values)
}

/// The place of a part that ends where `index` begins: one of the last ones, or a new one.
fn part_that_goes_on<R>(parts: &mut Vec<(usize, Vec<R>)>, index: usize, more: usize) -> usize {
    let goes_on = |(first, values): &(usize, Vec<R>)| first + values.len() == index;
    let last = parts.len().saturating_sub(8);
    if let Some(place) = parts[last..].iter().rposition(goes_on) {
        return last + place;
    }
    parts.push((index, Vec::with_capacity(more)));
    parts.len() - 1
}
