//! [`Entropy`] in the shape that the share and HPKE crates ask for.

use core::convert::Infallible;

use coffer_model::Entropy;
use rand_core::{TryCryptoRng, TryRng};
use zeroize::Zeroizing;

/// Hands an [`Entropy`] to a crate that wants a `CryptoRng`.
pub(crate) struct EntropyRng<'a>(pub(crate) &'a dyn Entropy);

impl TryRng for EntropyRng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = Zeroizing::new([0; 4]);
        self.0.fill(bytes.as_mut());
        Ok(u32::from_le_bytes(*bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = Zeroizing::new([0; 8]);
        self.0.fill(bytes.as_mut());
        Ok(u64::from_le_bytes(*bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for EntropyRng<'_> {}
