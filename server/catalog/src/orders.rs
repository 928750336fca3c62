//! The orders of a rebuilt catalogue, as async calls: they go on far above what
//! the sites showed, and where they begin is kept at the sites before the first
//! of them is given.

use crate::operations::{puts, rebuild};
use crate::{Catalog, CatalogError};

impl Catalog {
    /// Lets the orders go on `gap` higher than what was loaded: above those
    /// that a lost catalogue gave and nobody stored yet.
    ///
    /// # Errors
    /// [`CatalogError::TooLarge`] where there are no such orders.
    pub async fn skip_orders(&self, gap: u64) -> Result<(), CatalogError> {
        self.writer().write(move |db| rebuild::skip_orders(db, gap)).await
    }

    /// The order that is given next: whatever was reserved has a lower one.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn next_order(&self) -> Result<u64, CatalogError> {
        self.readers().read(puts::order_to_come).await
    }

    /// The lowest order that this catalogue gives, if it was rebuilt and
    /// nobody has kept that elsewhere yet.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn order_floor(&self) -> Result<Option<u64>, CatalogError> {
        self.readers().read(rebuild::order_floor).await
    }

    /// Takes note that the floor of the orders is kept elsewhere.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn order_floor_kept(&self) -> Result<(), CatalogError> {
        self.writer().write(rebuild::order_floor_kept).await
    }
}
