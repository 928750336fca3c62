//! A few read-only connections beside the writer. Each read sees the last
//! commit that was answered before it began.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_model::Execution;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task;

use crate::CatalogError;

/// The pool; a clone is the same pool.
#[derive(Clone)]
pub(crate) struct Readers {
    execution: Execution,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// A connection that goes back to its pool, even if a read panics.
struct Borrowed {
    connection: Option<Connection>,
    home: Readers,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.home.turns.is_closed()
        {
            self.home.idle().push(connection);
        }
    }
}

impl Readers {
    /// A pool of these connections.
    pub(crate) fn new(connections: Vec<Connection>, execution: Execution) -> Self {
        let turns = Arc::new(Semaphore::new(connections.len()));
        Self { execution, turns, idle: Arc::new(Mutex::new(connections)) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on one connection, off the async threads where there are others.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| CatalogError::Closed)?;
        let borrowed = Borrowed { connection: self.idle().pop(), home: self.clone() };
        let run = move || {
            let result = match &borrowed.connection {
                Some(connection) => work(connection),
                None => Err(CatalogError::Closed),
            };
            // In this order: whoever gets the turn must find the connection.
            drop(borrowed);
            drop(turn);
            result
        };
        match self.execution {
            Execution::Threads => task::spawn_blocking(run).await.map_err(|_| CatalogError::Closed)?,
            Execution::Inline => {
                task::yield_now().await;
                run()
            }
        }
    }

    /// Refuses further reads and closes the connections; one that is in use
    /// is closed when its read ends.
    pub(crate) fn close(&self) {
        self.turns.close();
        self.idle().clear();
    }
}
