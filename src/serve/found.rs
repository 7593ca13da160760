//! What of a finished run recommendations are made of.

use crate::data::Descriptions;
use crate::error::Result;
use crate::pipeline::stage::Made;
use crate::pipeline::stages::graph::Collaborative;
use crate::pipeline::stages::rank::Ranked;
use crate::pipeline::stages::{Chain, DataMade, GraphMade, TextMade};
use crate::retrieval::Sources;
use crate::tensor::Matrix;

/// Data set and item embeddings of a run.
pub(super) struct Found {
    pub data: DataMade,
    pub colla: Made<Collaborative>,
    pub ranked: Made<Ranked>,
    pub refit: Made<()>,
    /// `None` where a run of the graph stages alone did not embed the items' words.
    pub words: Option<Words>,
}

/// What the words of the items came to.
pub(super) struct Words {
    pub described: Made<Descriptions>,
    pub text: TextMade,
    pub ssl: Made<Matrix>,
}

impl Found {
    /// Finds what the stages `data` to `align` have made.
    pub(super) fn find(chain: &Chain<'_>) -> Result<Self> {
        let data = chain.data()?;
        let GraphMade { colla, ranked, refit } = chain.ranked_graph(&data)?;
        let words = Words::find(chain, &data, &colla);
        let words = if data.graph_only.is_some() { words.ok() } else { Some(words?) };
        Ok(Self { data, colla, ranked, refit, words })
    }

    /// The item embeddings under the names that a mixture knows.
    pub(super) fn sources(&self) -> Result<Sources<'_>> {
        let colla = Some(&self.colla.get()?.items);
        let Some(words) = &self.words else { return Ok(Sources { colla, ..Sources::default() }) };
        let text = words.text.text.get()?;
        let plain = words.text.plain.as_ref().map_or(Ok(text), Made::get)?;
        Ok(Sources { plain: Some(plain), text: Some(text), colla, ssl: Some(words.ssl.get()?) })
    }
}

impl Words {
    fn find(chain: &Chain<'_>, data: &DataMade, colla: &Made<Collaborative>) -> Result<Self> {
        let described = chain.describe(data)?;
        let text = chain.embed(data, &described)?;
        let ssl = chain.align(&text, colla)?;
        Ok(Self { described, text, ssl })
    }
}
