// What the log counts about itself.

package import UkehiBase

/// A snapshot of the log's counters since it was opened.
package struct WALStatistics: Sendable {
    /// Frames that became durable; each was one write and one sync.
    package var frames: UInt64 = 0
    /// Of those, the ones that the volume had no space for at first.
    package var framesWrittenTwice: UInt64 = 0
    /// Batches in them.
    package var batches: UInt64 = 0
    /// Bytes of frames written, padding included.
    package var bytesWritten: UInt64 = 0
    /// Of bodies in those frames: as stored, and as they were before compression.
    package var bodyBytes: UInt64 = 0
    package var rawBodyBytes: UInt64 = 0
    /// Durable writes ended, headers and marks included.
    package var syncs: UInt64 = 0
    package var segmentsActivated: UInt64 = 0
    package var segmentsRemoved: UInt64 = 0
    /// Of those made since, how many are the files of removed ones.
    package var segmentsReused: UInt64 = 0
    /// States written again so that a segment could go, and their bytes.
    package var statesCarried: UInt64 = 0
    package var carriedBytes: UInt64 = 0
    /// Regions whose entries were written again for the same reason, and their bytes.
    package var regionsRewritten: UInt64 = 0
    package var rewrittenBytes: UInt64 = 0
    /// Sealed segments that got a footer.
    package var footersWritten: UInt64 = 0
    /// Bytes of sealed segments that the background check has read, and its rounds that ended.
    package var scrubbedBytes: UInt64 = 0
    package var scrubRounds: UInt64 = 0
    /// Runs of entries in which it found damage, and places without entries; each counts once.
    package var damagedRanges: UInt64 = 0
    /// Damaged bodies that were written again from a peer's entries.
    package var mendedBodies: UInt64 = 0
    /// Submitted and not yet durable.
    package var queuedBytes = 0
    package var segments = 0
    package var regions = 0
    package var histograms = LogHistograms()
    /// Batches refused because the queue was full.
    package var overloads: UInt64 = 0
}

/// How the scheduler's work is spread: buckets of an eighth of their value, the same memory always.
///
/// A batch costs two increments, a frame four.
package struct LogHistograms: Sendable {
    /// Batches in a frame, entries in it, and its bytes, padding included; frames that only claim are
    /// not counted.
    package private(set) var frameBatches = LogHistograms.made
    package private(set) var frameEntries = LogHistograms.made
    package private(set) var frameBytes = LogHistograms.made
    /// What a batch met as it was submitted: frames in flight, and bytes not yet durable before it.
    package private(set) var framesInFlight = LogHistograms.made
    package private(set) var queuedBytes = LogHistograms.made
    /// From a frame's write to the end of its sync, by the clock that the log was opened with.
    package private(set) var syncNanoseconds = LogHistograms.made

    private static var made: CountHistogram { CountHistogram(precision: 3, limitBits: 40) }

    /// All of them, in the order and with the names of reports.
    package var all: [(name: String, unit: String, counts: CountHistogram)] {
        [
            ("frame_batches", "", frameBatches), ("frame_entries", "", frameEntries),
            ("frame", "B", frameBytes), ("in_flight_at_submit", "", framesInFlight),
            ("queued_at_submit", "B", queuedBytes), ("write_and_sync", "ns", syncNanoseconds),
        ]
    }

    /// With counts of its own, which change no more.
    func copy() -> LogHistograms {
        var made = self
        made.frameBatches = frameBatches.copy()
        made.frameEntries = frameEntries.copy()
        made.frameBytes = frameBytes.copy()
        made.framesInFlight = framesInFlight.copy()
        made.queuedBytes = queuedBytes.copy()
        made.syncNanoseconds = syncNanoseconds.copy()
        return made
    }
}

/// Counts by powers of two.
package struct PowerBuckets: Sendable, Hashable {
    package private(set) var counts = [UInt64](repeating: 0, count: 32)

    mutating func add(_ value: UInt64) {
        let bucket = value == 0 ? 0 : 63 - value.leadingZeroBitCount
        counts[min(bucket, counts.count - 1)] += 1
    }

    /// The lower bound of the bucket that holds the value below which `fraction` of them lie.
    package func quantile(_ fraction: Double) -> UInt64 {
        let total = counts.reduce(0, +)
        var left = UInt64(Double(total) * fraction)
        for (bucket, count) in counts.enumerated() {
            if left < count { return 1 << UInt64(bucket) }
            left -= count
        }
        return 0
    }
}
