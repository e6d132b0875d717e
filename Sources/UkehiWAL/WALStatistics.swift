// What the log counts about itself.

/// A snapshot of the log's counters since it was opened.
package struct WALStatistics: Sendable, Hashable {
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
    /// Durable writes of frames by their duration: bucket `i` counts those of 2^i..<2^(i+1) µs.
    package var syncMicroseconds = PowerBuckets()
    /// Frames by their bytes: bucket `i` counts those of 2^i..<2^(i+1) blocks of 4 KiB.
    package var frameBlocks = PowerBuckets()
    /// Batches refused because the queue was full.
    package var overloads: UInt64 = 0
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
