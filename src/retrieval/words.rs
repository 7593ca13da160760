//! Items as their words, weighed by TF-IDF (Salton and Buckley, 1988).

use std::collections::HashMap;

/// Items as weighed words, each of length 1.
pub struct Words {
    /// (word, weight) of each item, by word.
    items: Vec<Vec<(u32, f32)>>,
    vocabulary: usize,
}

impl Words {
    /// Term frequency (its logarithm and 1) times inverse document frequency, over all items.
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let (mut known, mut seen, mut counted) = (HashMap::new(), Vec::new(), Vec::new());
        for text in texts {
            let mut counts: HashMap<u32, u32> = HashMap::new();
            for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                let next = known.len() as u32;
                let word = *known.entry(word.to_lowercase()).or_insert(next);
                *counts.entry(word).or_default() += 1;
            }
            seen.resize(known.len(), 0u32);
            counts.keys().for_each(|word| seen[*word as usize] += 1);
            counted.push(counts);
        }
        let documents = counted.len() as f64;
        let weighed = |counts: HashMap<u32, u32>| {
            let weight = |(word, count): (u32, u32)| {
                let rare = ((1.0 + documents) / (1.0 + f64::from(seen[word as usize]))).ln();
                (word, (1.0 + f64::from(count).ln()) * rare)
            };
            let mut words: Vec<(u32, f64)> = counts.into_iter().map(weight).collect();
            words.sort_unstable_by_key(|w| w.0);
            let length = words.iter().map(|w| w.1 * w.1).sum::<f64>().sqrt();
            let unit = |(word, weight): (u32, f64)| (word, if length > 0.0 { (weight / length) as f32 } else { 0.0 });
            words.into_iter().map(unit).collect()
        };
        Self { items: counted.into_iter().map(weighed).collect(), vocabulary: known.len() }
    }

    /// Cosine of two items' words.
    pub fn cosine(&self, a: usize, b: usize) -> f64 {
        let (Some(a), Some(b)) = (self.items.get(a), self.items.get(b)) else { return 0.0 };
        let (mut i, mut j, mut sum) = (0, 0, 0.0);
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            if x.0 == y.0 {
                sum += f64::from(x.1) * f64::from(y.1);
            }
            i += usize::from(x.0 <= y.0);
            j += usize::from(y.0 <= x.0);
        }
        sum
    }

    /// (word, weight) of an item, by word; nothing of an item that is not there.
    pub fn of_item(&self, item: usize) -> &[(u32, f32)] {
        self.items.get(item).map_or(&[], Vec::as_slice)
    }

    /// Number of different words.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Without an item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that the words hold.
    pub fn bytes(&self) -> usize {
        self.items.iter().map(|item| size_of_val(item.as_slice())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_rare_and_shared_speak() {
        let words = Words::of(["a film of space whales", "a film of space dragons", "a film of kitchens", ""]);
        let cosine = |a, b| words.cosine(a, b);
        assert!((cosine(0, 0) - 1.0).abs() <= 1e-6 && cosine(3, 3).abs() <= 1e-12 && cosine(0, 9).abs() <= 1e-12);
        assert!(cosine(0, 1) > cosine(0, 2) + 0.1 && (cosine(0, 1) - cosine(1, 0)).abs() <= 1e-12);
        assert!(words.of_item(3).is_empty() && words.of_item(9).is_empty() && words.len() == 4);
    }
}
