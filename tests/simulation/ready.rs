//! A set of numbers of which one is drawn by chance: who may go next.
//!
//! Invariant: each is in it once; putting in, taking out and drawing cost the same however many there are.

/// See the module.
#[derive(Default)]
pub struct Ready {
    list: Vec<u32>,
    /// Place in the list plus 1, by number; 0 for none.
    places: Vec<u32>,
}

impl Ready {
    /// Puts one in, or takes it out.
    #[inline]
    pub fn set(&mut self, number: u32, is_in: bool) {
        let at = number as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, 0);
        }
        let place = self.places[at];
        if is_in && place == 0 {
            self.list.push(number);
            self.places[at] = self.list.len() as u32;
        } else if !is_in && place > 0 {
            self.list.swap_remove(place as usize - 1);
            if let Some(&moved) = self.list.get(place as usize - 1) {
                self.places[moved as usize] = place;
            }
            self.places[at] = 0;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The one at a place.
    pub fn at(&self, place: usize) -> u32 {
        self.list[place]
    }
}
