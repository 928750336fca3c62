//! Who holds the writer: a thread of its own that is fed by a queue, or
//! whoever asks, one after the other.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use coffer_model::Execution;
use coffer_regions::SiteError;
use tokio::sync::{mpsc, oneshot};

use crate::group::{Reply, Request};
use crate::writer::Writer;

/// Requests that wait for the writer; more wait in their callers.
const QUEUE_REQUESTS: usize = 1024;

/// The way to the one writer of a site.
pub(crate) enum Pen {
    /// The queue of its thread, and the thread.
    Thread(mpsc::Sender<Request>, JoinHandle<()>),
    /// The writer itself.
    Inline(Box<Mutex<Writer>>),
}

impl Pen {
    pub(crate) fn new(writer: Writer, execution: Execution) -> std::io::Result<Self> {
        if execution == Execution::Inline {
            return Ok(Self::Inline(Box::new(Mutex::new(writer))));
        }
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
        let thread = std::thread::Builder::new().name("site-writer".to_owned());
        Ok(Self::Thread(queue, thread.spawn(move || writer.run(requests))?))
    }

    /// Hands a request to the writer and waits for its answer. The request is
    /// made when it is sure to go: whoever stops waiting before that has asked
    /// for nothing.
    pub(crate) async fn ask<T: Send>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request + Send,
    ) -> Result<T, SiteError> {
        let (reply, answer) = oneshot::channel();
        match self {
            Self::Thread(queue, _) => {
                // The writer only ends with the site; if it is gone, nothing is written.
                let place = queue.reserve().await.map_err(|_| SiteError::ReadOnly)?;
                place.send(request(reply));
            }
            Self::Inline(writer) => serve(writer, request(reply)),
        }
        answer.await.map_err(|_| SiteError::ReadOnly)?
    }

    /// The same where a thread may block.
    pub(crate) fn ask_now<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SiteError> {
        let (reply, mut answer) = oneshot::channel();
        let request = request(reply);
        match self {
            Self::Thread(queue, _) => {
                queue.blocking_send(request).map_err(|_| SiteError::ReadOnly)?;
                answer.blocking_recv().map_err(|_| SiteError::ReadOnly)?
            }
            Self::Inline(writer) => {
                serve(writer, request);
                answer.try_recv().map_err(|_| SiteError::ReadOnly)?
            }
        }
    }

    /// Waits until everything that was asked for is written.
    pub(crate) fn put_down(self) {
        match self {
            Self::Thread(queue, thread) => {
                drop(queue);
                drop(thread.join());
            }
            Self::Inline(writer) => {
                writer.lock().unwrap_or_else(PoisonError::into_inner).give_back_reserved();
            }
        }
    }
}

fn serve(writer: &Mutex<Writer>, request: Request) {
    writer.lock().unwrap_or_else(PoisonError::into_inner).serve(request, || None);
}
