// Latencies: recorded per lane of clients in a few nanoseconds, merged into an HDR histogram for
// the report.
//
//   value (ns)  | 0 ..< 2048 | 2048 ..< 4096 | 4096 ..< 8192 | ...     one bucket each
//   slots       | 2048 of 1  | 1024 of 2     | 1024 of 4     | ...     0.1 % wide at most
//
// The buckets are those of an HDR histogram with three significant digits; the library's own
// recording goes through generic code of another module and costs more than the rest of a client.

import Histogram
import UkehiBase

/// Counts of latencies, in nanoseconds up to 18 minutes. Used under its owner's lock.
final class LatencyRecorder: @unchecked Sendable {
    // Safety: owned by one sink, which guards it; copies for the report are taken under its lock.
    private let counts: UnsafeMutablePointer<UInt32>
    private(set) var total: UInt64 = 0
    private(set) var maximum: UInt64 = 0

    private static let linearSlots = 2048
    private static let octaveSlots = 1024
    private static let octaves = 29
    private static let slots = linearSlots + octaveSlots * octaves
    private static let limit: UInt64 = 1 << 40

    init() {
        counts = .allocate(capacity: LatencyRecorder.slots)
        counts.initialize(repeating: 0, count: LatencyRecorder.slots)
    }

    deinit { counts.deallocate() }

    @inline(__always)
    private static func slot(of nanoseconds: UInt64) -> Int {
        let value = min(nanoseconds, limit - 1)
        if value < UInt64(linearSlots) { return Int(truncatingIfNeeded: value) }
        let octave = 52 - value.leadingZeroBitCount  // 0 for 2048 ..< 4096.
        let within = Int(truncatingIfNeeded: value >> UInt64(octave + 1)) - octaveSlots
        return linearSlots + octave * octaveSlots + within
    }

    /// The largest latency that shares `slot`.
    private static func upperEdge(of slot: Int) -> UInt64 {
        if slot < linearSlots { return UInt64(slot) }
        let octave = (slot - linearSlots) / octaveSlots
        let within = (slot - linearSlots) % octaveSlots
        return (UInt64(octaveSlots + within + 1) << UInt64(octave + 1)) - 1
    }

    /// Counts one latency.
    @inline(__always)
    func record(_ nanoseconds: UInt64) {
        counts[LatencyRecorder.slot(of: nanoseconds)] &+= 1
        total &+= 1
        if nanoseconds > maximum { maximum = nanoseconds }
    }

    /// Forgets everything.
    func reset() {
        counts.update(repeating: 0, count: LatencyRecorder.slots)
        total = 0
        maximum = 0
    }

    /// Adds what `other` has counted.
    func add(_ other: LatencyRecorder) {
        for slot in 0..<LatencyRecorder.slots { counts[slot] &+= other.counts[slot] }
        total &+= other.total
        maximum = max(maximum, other.maximum)
    }

    /// Takes back what was added before: leaves what came since `earlier` was copied.
    func subtract(_ earlier: LatencyRecorder) {
        for slot in 0..<LatencyRecorder.slots { counts[slot] &-= earlier.counts[slot] }
        total &-= earlier.total
    }

    /// The HDR histogram of the latencies, in nanoseconds.
    func histogram() -> Histogram<UInt64> {
        var result = Histogram<UInt64>(
            lowestDiscernibleValue: 1, highestTrackableValue: LatencyRecorder.limit,
            numberOfSignificantValueDigits: .three)
        for slot in 0..<LatencyRecorder.slots where counts[slot] > 0 {
            let edge = LatencyRecorder.upperEdge(of: slot)
            result.record(edge, count: UInt64(counts[slot]))
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
