//! Samples and packs batches on another thread, ahead of the step.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::batch::Batch;
use super::pack::Packer;
use super::sample::{Sampler, SamplerState};
use crate::error::{Error, Result};

/// A batch, and where the sampling is once it has been trained on: what a checkpoint stores after that step.
#[derive(Debug)]
pub struct Prepared {
    pub batch: Batch,
    pub after: SamplerState,
}

/// A thread that makes batches without end, at most a few ahead of those taken. Dropping this stops it.
#[derive(Debug)]
pub struct Prefetch {
    /// `None` once the thread is known to have ended.
    ready: Option<Receiver<Prepared>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts the thread, which goes on from the sampler's state and keeps up to `ahead` batches ready.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(mut sampler: Sampler, mut packer: Packer, ahead: usize) -> Result<Prefetch> {
        let (sender, ready) = sync_channel(ahead);
        let thread = std::thread::Builder::new()
            .name("batches".into())
            .spawn(move || {
                loop {
                    let step = sampler.step();
                    let batch = packer.pack_step(step, sampler.next_batch());
                    if sender.send(Prepared { batch, after: sampler.state() }).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Error::Data(format!("cannot start a thread that packs batches: {error}")))?;
        Ok(Prefetch { ready: Some(ready), thread: Some(thread) })
    }

    /// The next batch; waits for it where none is ready.
    ///
    /// # Errors
    /// Where the thread has failed.
    pub fn next_batch(&mut self) -> Result<Prepared> {
        let received = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        received.ok_or_else(|| {
            self.ready = None;
            let reason = match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => match panic.downcast::<String>() {
                    Ok(message) => *message,
                    Err(panic) => panic.downcast_ref::<&str>().map_or_else(String::new, |&message| message.into()),
                },
                _ => "it has ended".into(),
            };
            Error::Data(format!("the thread that packs batches failed: {reason}"))
        })
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // The thread ends at its next send.
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; nobody waits for its batches any more.
            let _ = thread.join();
        }
    }
}
