//! How long things took, in buckets.

use std::time::Duration;

use super::Counter;

/// The upper bounds of the buckets: from what a handshake on one host takes to what a tunnel may live.
/// One list for both, because a histogram that is all in one bucket says so by itself.
const BOUNDS: [(Duration, &str); 20] = [
    (Duration::from_micros(250), "0.00025"),
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(30), "30"),
    (Duration::from_mins(2), "120"),
    (Duration::from_mins(10), "600"),
    (Duration::from_hours(1), "3600"),
    (Duration::from_hours(6), "21600"),
    (Duration::from_hours(24), "86400"),
    (Duration::from_hours(7 * 24), "604800"),
];

/// A number of durations by length. One writer, as for a [`Counter`].
#[derive(Debug, Default)]
pub struct Histogram {
    /// By bound, and what is longer than all of them.
    buckets: [Counter; BOUNDS.len() + 1],
    sum_micros: Counter,
}

/// A histogram at one moment, or several of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    buckets: [u64; BOUNDS.len() + 1],
    sum_micros: u64,
}

impl Histogram {
    /// Counts one. Call it from the owning worker only.
    pub fn observe(&self, took: Duration) {
        let index = BOUNDS.partition_point(|(bound, _)| *bound < took);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.add(1);
        }
        self.sum_micros.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Totals {
    pub(super) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut totals = Self::default();
        for histogram in histograms {
            for (total, bucket) in totals.buckets.iter_mut().zip(&histogram.buckets) {
                *total += bucket.value();
            }
            totals.sum_micros = totals.sum_micros.wrapping_add(histogram.sum_micros.value());
        }
        totals
    }

    /// Every bound with the number up to it; the last is `+Inf`, with the number of all.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bounds = BOUNDS.iter().map(|(_, label)| *label).chain(["+Inf"]);
        bounds.zip(self.buckets).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of the durations in seconds, as text: no float is exact enough for years in
    /// microseconds.
    pub(super) fn sum_seconds(&self) -> String {
        format!("{}.{:06}", self.sum_micros / 1_000_000, self.sum_micros % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (index, (bound, label)) in BOUNDS.iter().enumerate() {
            let seconds: f64 = label.parse().unwrap();
            assert!((seconds - bound.as_secs_f64()).abs() < 1e-9, "{label}");
            let histogram = Histogram::default();
            histogram.observe(*bound);
            histogram.observe(*bound + Duration::from_nanos(1));
            assert_eq!(histogram.buckets[index].value(), 1, "{label}");
            assert_eq!(histogram.buckets[index + 1].value(), 1, "{label}");
        }
    }

    #[test]
    fn workers_add_up_and_buckets_are_cumulative() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_millis(1500));
        other.observe(Duration::from_micros(250));
        other.observe(Duration::from_hours(10_000));
        let totals = Totals::of([&one, &other].into_iter());
        let cumulative: Vec<_> = totals.cumulative().collect();
        assert_eq!(cumulative[0], ("0.00025", 1));
        assert_eq!(cumulative[12], ("5", 2));
        assert_eq!(cumulative.last(), Some(&("+Inf", 3)));
        assert_eq!((totals.count(), &*totals.sum_seconds()), (3, "36000001.500250"));
    }
}
