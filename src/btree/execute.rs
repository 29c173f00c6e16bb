//! Driver. Carries write plans out.

use super::plan::{Plan, Receipt, Step};
use crate::env::TreeFile;
use crate::limits::btree::WRITES_IN_FLIGHT_MAX;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

/// Carries a plan out, with a few writes in flight between barriers. After an `Err` nothing is
/// known about the file: the caller latches the error and neither writes to it nor reads new roots.
pub async fn execute<F: TreeFile>(plan: Plan, file: &F) -> io::Result<Receipt> {
    let mut writes = Writes { open: Vec::new() };
    for step in plan.steps {
        match step {
            Step::Write { offset, bytes } => {
                writes.open.push(Box::pin(file.write_at(bytes, offset)));
                writes.wait(WRITES_IN_FLIGHT_MAX - 1).await?;
            }
            Step::SetSize(size) => {
                writes.wait(0).await?;
                file.set_size(size).await?;
            }
            Step::Sync => {
                writes.wait(0).await?;
                file.sync().await?;
            }
        }
    }
    writes.wait(0).await?;
    Ok(plan.receipt)
}

/// Writes in flight.
struct Writes<'f> {
    open: Vec<Pin<Box<dyn Future<Output = io::Result<()>> + 'f>>>,
}

impl Writes<'_> {
    /// Waits until at most `left` are in flight. After a failure it waits for all of them, so that
    /// none is cancelled half way, and returns the first error.
    async fn wait(&mut self, left: usize) -> io::Result<()> {
        let mut result = Ok(());
        while self.open.len() > if result.is_ok() { left } else { 0 } {
            let one = self.one().await;
            result = result.and(one);
        }
        result
    }

    async fn one(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            for index in 0..self.open.len() {
                if let Poll::Ready(result) = self.open[index].as_mut().poll(context) {
                    drop(self.open.swap_remove(index));
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
        .await
    }
}
