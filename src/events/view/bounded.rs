//! Bounds: strings are cut, lists drop their oldest, and everything can say what it holds.

use std::collections::VecDeque;

/// Longest name (stage, operator, metric, title) that is kept, bytes.
pub const NAME: usize = 128;
/// Longest text (message, answer, prompt) that is kept, bytes.
pub const TEXT: usize = 4096;

/// `text`, cut at a character's boundary after at most `most` bytes.
pub fn cut(text: &str, most: usize) -> String {
    text[..floor(text, most)].to_string()
}

/// The largest character boundary not beyond `at`.
pub fn floor(text: &str, at: usize) -> usize {
    let mut end = at.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// Appends, dropping the oldest beyond `most`.
pub fn push<T>(list: &mut VecDeque<T>, most: usize, value: T) {
    while list.len() >= most {
        list.pop_front();
    }
    list.push_back(value);
}

/// Bytes on the heap, about.
pub trait Footprint {
    /// Without the value itself.
    fn held(&self) -> usize;
}

impl Footprint for String {
    fn held(&self) -> usize {
        self.capacity()
    }
}

impl<T: Footprint> Footprint for Option<T> {
    fn held(&self) -> usize {
        self.as_ref().map_or(0, Footprint::held)
    }
}

impl<T: Footprint> Footprint for Vec<T> {
    fn held(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(Footprint::held).sum::<usize>()
    }
}

impl<T: Footprint> Footprint for VecDeque<T> {
    fn held(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(Footprint::held).sum::<usize>()
    }
}

/// For values without heap parts.
macro_rules! flat {
    ($($type:ty),* $(,)?) => {
        $(impl $crate::view::bounded::Footprint for $type {
            fn held(&self) -> usize {
                0
            }
        })*
    };
}
pub(super) use flat;

flat!(u8, u32, u64, i64, f32, f64, bool, (u64, f64), (f64, f64), [f64; 2]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_fall_on_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut("añb", 3), "añ");
        assert_eq!(cut("a", 9), "a");
    }

    #[test]
    fn lists_drop_their_oldest() {
        let mut list = VecDeque::new();
        for i in 0..5 {
            push(&mut list, 3, i);
        }
        assert_eq!(list, [2, 3, 4]);
    }
}
