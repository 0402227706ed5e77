//! What stands in for `rtrb` under loom: the same protocol (Release when publishing, Acquire when taking, both ways),
//! on loom's atomics.
//!
//! Not here: speed, or unsafe code. Values lie in plain mutexes loom knows nothing of, so they order nothing in its
//! model. Invariant: each cell carries a *mark* that is only touched with Relaxed; if the two positions did not order
//! both sides as they must, loom finds an execution in which one side sees the other's old mark, and an assertion here
//! fails.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Makes lanes; named and shaped as `rtrb::RingBuffer`.
pub(super) struct Lane<T>(PhantomData<T>);

struct Cells<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    cells: Box<[MarkedCell<T>]>,
}

struct MarkedCell<T> {
    value: Mutex<Option<T>>,
    mark: AtomicUsize,
}

/// The writing end.
pub(super) struct LaneWriter<T> {
    shared: Arc<Cells<T>>,
    tail: usize,
}

/// The reading end.
pub(super) struct LaneReader<T> {
    shared: Arc<Cells<T>>,
    head: usize,
}

/// Room for some values, not published yet.
pub(super) struct WriteChunk<'w, T> {
    writer: &'w mut LaneWriter<T>,
    values: Vec<T>,
    first: usize,
}

/// Some published values.
pub(super) struct ReadChunk<'r, T> {
    reader: &'r mut LaneReader<T>,
    values: Vec<T>,
    first: usize,
}

impl<T> Lane<T> {
    #[allow(clippy::new_ret_no_self)]
    pub(super) fn new(count: usize) -> (LaneWriter<T>, LaneReader<T>) {
        let cells = (0..count).map(|_| MarkedCell { value: Mutex::new(None), mark: AtomicUsize::new(0) }).collect();
        let shared = Arc::new(Cells { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), cells });
        (LaneWriter { shared: Arc::clone(&shared), tail: 0 }, LaneReader { shared, head: 0 })
    }
}

impl<T> Cells<T> {
    /// Positions count up for ever; a mark is 2p + 1 when the value of position p was written, 2p + 2 when it was read.
    fn write(&self, position: usize, value: T) {
        let cell = &self.cells[position % self.cells.len()];
        let expected = if position < self.cells.len() { 0 } else { 2 * (position - self.cells.len()) + 2 };
        assert_eq!(cell.mark.load(Ordering::Relaxed), expected, "written before the reader was seen to be done");
        *cell.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        cell.mark.store(2 * position + 1, Ordering::Relaxed);
    }

    fn check_written(&self, position: usize) -> &MarkedCell<T> {
        let cell = &self.cells[position % self.cells.len()];
        assert_eq!(cell.mark.load(Ordering::Relaxed), 2 * position + 1, "read before the writer was seen to be done");
        cell
    }

    fn release(&self, position: usize) -> Option<T> {
        let cell = self.check_written(position);
        let value = cell.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        cell.mark.store(2 * position + 2, Ordering::Relaxed);
        value
    }
}

impl<T> LaneWriter<T> {
    pub(super) fn slots(&self) -> usize {
        self.shared.cells.len() - (self.tail - self.shared.head.load(Ordering::Acquire))
    }

    pub(super) fn push(&mut self, value: T) -> Result<(), T> {
        if self.slots() == 0 {
            return Err(value);
        }
        self.shared.write(self.tail, value);
        self.publish(1);
        Ok(())
    }

    pub(super) fn write_chunk(&mut self, count: usize) -> Result<WriteChunk<'_, T>, ()>
    where
        T: Default,
    {
        if self.slots() < count {
            return Err(());
        }
        let first = count.min(self.shared.cells.len() - self.tail % self.shared.cells.len());
        Ok(WriteChunk { writer: self, values: (0..count).map(|_| T::default()).collect(), first })
    }

    fn publish(&mut self, count: usize) {
        self.tail += count;
        self.shared.tail.store(self.tail, Ordering::Release);
    }
}

impl<T> WriteChunk<'_, T> {
    pub(super) fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        self.values.split_at_mut(self.first)
    }

    pub(super) fn commit(self, count: usize) {
        for (offset, value) in self.values.into_iter().take(count).enumerate() {
            self.writer.shared.write(self.writer.tail + offset, value);
        }
        self.writer.publish(count);
    }
}

impl<T> LaneReader<T> {
    pub(super) fn slots(&self) -> usize {
        self.shared.tail.load(Ordering::Acquire) - self.head
    }

    pub(super) fn pop(&mut self) -> Result<T, ()> {
        if self.slots() == 0 {
            return Err(());
        }
        let value = self.shared.release(self.head);
        self.free(1);
        value.ok_or(())
    }

    pub(super) fn read_chunk(&mut self, count: usize) -> Result<ReadChunk<'_, T>, ()>
    where
        T: Copy,
    {
        if self.slots() < count {
            return Err(());
        }
        let first = count.min(self.shared.cells.len() - self.head % self.shared.cells.len());
        let values = (self.head..self.head + count)
            .filter_map(|position| {
                *self.shared.check_written(position).value.lock().unwrap_or_else(PoisonError::into_inner)
            })
            .collect();
        Ok(ReadChunk { reader: self, values, first })
    }

    fn free(&mut self, count: usize) {
        self.head += count;
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> ReadChunk<'_, T> {
    pub(super) fn as_slices(&self) -> (&[T], &[T]) {
        self.values.split_at(self.first)
    }

    pub(super) fn commit(self, count: usize) {
        for position in self.reader.head..self.reader.head + count {
            self.reader.shared.release(position);
        }
        self.reader.free(count);
    }
}
