// Latencies: recorded per lane of clients in a few nanoseconds, merged into an HDR histogram for
// the report. The buckets are those of one with three significant digits (UkehiBase/CountHistogram).

import Histogram
import UkehiBase

/// Counts of latencies, in nanoseconds up to 18 minutes. Used under its owner's lock.
final class LatencyRecorder: Sendable {
    private let counts = CountHistogram(precision: 10, limitBits: LatencyRecorder.limitBits)
    private static let limitBits = 40

    var total: UInt64 { counts.total }
    var maximum: UInt64 { counts.maximum }

    /// Counts one latency.
    @inline(__always)
    func record(_ nanoseconds: UInt64) { counts.record(nanoseconds) }

    /// Forgets everything.
    func reset() { counts.reset() }

    /// Adds what `other` has counted.
    func add(_ other: LatencyRecorder) { counts.add(other.counts) }

    /// Takes back what was added before: leaves what came since `earlier` was copied.
    func subtract(_ earlier: LatencyRecorder) { counts.subtract(earlier.counts) }

    /// The HDR histogram of the latencies, in nanoseconds.
    func histogram() -> Histogram<UInt64> {
        var result = Histogram<UInt64>(
            lowestDiscernibleValue: 1,
            highestTrackableValue: 1 << UInt64(LatencyRecorder.limitBits),
            numberOfSignificantValueDigits: .three)
        for slot in 0..<counts.slots where counts.count(in: slot) > 0 {
            result.record(counts.upperEdge(of: slot), count: counts.count(in: slot))
        }
        return result
    }

    /// What the report says of the latencies.
    func summary() -> LatencySummary {
        guard total > 0 else { return LatencySummary() }
        let histogram = histogram()
        // The histogram rounds the largest value up to its bucket's edge; the exact one is known.
        func percentile(_ percent: Double) -> Double {
            Double(min(histogram.valueAtPercentile(percent), maximum)) / 1000
        }
        return LatencySummary(
            count: total, p50: percentile(50), p90: percentile(90), p99: percentile(99),
            p999: percentile(99.9), max: Double(maximum) / 1000)
    }
}

/// Percentiles in microseconds; all zero when nothing was counted.
struct LatencySummary: Equatable, Sendable {
    var count: UInt64 = 0
    var p50 = 0.0
    var p90 = 0.0
    var p99 = 0.0
    var p999 = 0.0
    var max = 0.0
}
