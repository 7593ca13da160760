//! The rope angles of a model: a table for the layers that see everything, and one for the layers
//! with a window where the family gives these a base of their own. The scale of attention is folded
//! in: kernels divide scores by the square root of the head width, so where a family divides by
//! another number, the table of the queries has the ratio as its amplitude.

use super::Config;
use crate::device::Device;
use crate::error::Result;
use crate::ops::rope::{Rope, Table};

/// Tables of one kind of layer.
struct Pair {
    keys: Table,
    /// Where they are not those of the keys.
    queries: Option<Table>,
}

/// All tables of a model.
pub(crate) struct Angles {
    all: Pair,
    windowed: Option<Pair>,
}

impl Pair {
    fn new(device: &Device, rope: &Rope, config: &Config) -> Self {
        let amplitude = config.query_scalar.map(|scalar| (config.head_dim as f64 / scalar).sqrt());
        let queries = amplitude.map(|by| Table::new(device, rope.clone().times(by)));
        Self { keys: Table::new(device, rope.clone()), queries }
    }

    fn grow(&mut self, len: usize) -> Result<()> {
        self.keys.grow(len)?;
        self.queries.as_mut().map_or(Ok(()), |queries| queries.grow(len))
    }
}

impl Angles {
    /// Empty tables.
    pub fn new(device: &Device, config: &Config) -> Self {
        let all = Rope::new(config.head_dim, config.rope_theta, config.rope_scaling);
        // The scaling, which stretches the context, concerns the layers that see all of it.
        let windowed = config.local_rope_theta.map(|theta| Rope::new(config.head_dim, theta, None));
        let pair = |rope: &Rope| Pair::new(device, rope, config);
        Self { all: pair(&all), windowed: windowed.as_ref().map(pair) }
    }

    /// How many positions are there.
    pub fn len(&self) -> usize {
        self.all.keys.len()
    }

    /// Makes sure that positions `0 .. len` are there.
    ///
    /// # Errors
    /// Out of memory.
    pub fn grow(&mut self, len: usize) -> Result<()> {
        self.all.grow(len)?;
        self.windowed.as_mut().map_or(Ok(()), |pair| pair.grow(len))
    }

    fn pair(&self, windowed: bool) -> &Pair {
        self.windowed.as_ref().filter(|_| windowed).unwrap_or(&self.all)
    }

    /// Of the queries of a layer, which has a window or has none.
    pub fn queries(&self, windowed: bool) -> &Table {
        let pair = self.pair(windowed);
        pair.queries.as_ref().unwrap_or(&pair.keys)
    }

    /// Of its keys.
    pub fn keys(&self, windowed: bool) -> &Table {
        &self.pair(windowed).keys
    }
}
