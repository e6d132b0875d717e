// What can be chosen about a log, and the bounds that cannot.

package import UkehiEnvironment

/// How a log is laid out and driven.
package struct WALOptions: Sendable {
    /// Bytes of one segment file, a multiple of 4,096. A frame that is larger gets a segment of
    /// its own.
    package var segmentBytes: Int = 128 << 20
    /// Frames written at the same time, each by its own thread. Further batches wait and share the
    /// next frame, so that batch size follows load. Of more than one, twice as many while frames wait
    /// that are full.
    package var maxGroupsInFlight: Int = 2
    /// Bytes after which a waiting group is closed and the next one begun.
    package var maxGroupBytes: Int = 1 << 20
    /// Bytes submitted and not yet durable; past it `submit` throws ``WALError/Code/overloaded``.
    package var maxQueueBytes: Int = 64 << 20
    /// Bodies of appends that are this long are compressed, if that saves something; nil: none are,
    /// and no reader needs to know how.
    package var compressionThresholdBytes: Int? = 8 << 10
    /// How long the log must rest before acknowledged frames are claimed by an empty one.
    package var idleClaimNanoseconds: UInt64 = 20_000_000
    /// Whether segments are filled with zeros before use, so that a sync changes no metadata.
    package var zeroesAhead = true
    /// Whether sealed segments get an index behind their end, so that opening need not read them.
    package var writesFooters = true
    /// Whether opening takes a segment's footer for its frames where it is right.
    package var readsFooters = true
    /// How fast sealed segments are checked in the background, bodies included; 0: not at all.
    package var scrubBytesPerSecond = 64 << 20
    /// What opening does about entries that cannot be read.
    package var damagePolicy = DamagePolicy.refuse
    package var rarePaths = RarePaths.off

    package init() {}
}

/// Bounds that protect readers and memory, whatever the options say.
package enum WALLimits {
    /// Sequence numbers skipped by each recovery: more frames than this can never have been in
    /// flight, so that a number which a lost frame may have had is not given twice.
    package static let maxGroupsInFlight = 64
    /// One batch, encoded; lengths and offsets in a frame are 32 bits wide.
    package static let maxBatchBytes = 1 << 29
    package static let minSegmentBytes = 16 << 10
    package static let maxSegmentBytes = 1 << 30
    /// What is zeroed, and synced, in one step by the preparer.
    static let prepareChunkBytes = 1 << 20
    /// Dead segments that wait for their next life, beside the one that is being prepared: never more
    /// than these, nor than so many bytes but for one. How many it takes, see ``IdleSegments``.
    static let maxIdleSegments = 8
    static let maxIdleSegmentBytes = 512 << 20
    /// Segments that must become free, at least, before entries are written again for it: until then the
    /// owner has time to let go of them.
    static let leastFreedByRewriting = 2
    /// What one step of purging writes again at most, but for a last batch.
    static let maxRewrittenBytes = 8 << 20
    /// Entries of a region that are written again as one batch, decompressed, but for a batch that was
    /// larger before. One bad sector damages all of a batch.
    static let rewrittenBatchBytes = 64 << 10
    /// Footers that wait for the preparer; a segment that is sealed meanwhile gets none.
    static let maxWaitingFooters = 8
    /// What the background check reads at once at most, but for a larger frame.
    static let scrubChunkBytes = 1 << 20
    /// From one round's beginning to the next one's, at least: a small log is not read all the time.
    static let scrubRoundNanoseconds: UInt64 = 600_000_000_000
    /// How long the background check rests when there is nothing to check.
    static let scrubRestNanoseconds: UInt64 = 1_000_000_000
    /// How long after looking for room for a larger reserve it is looked for again.
    static let reserveRetryNanoseconds: UInt64 = 1_000_000_000
    /// Damaged places that are remembered, so that each is told once; further ones are not told.
    static let maxKnownDamage = 4096
    /// A batch of so many bytes of bodies that is a frame by itself is written from where it lies.
    static let leastFrameInPlace = 32 << 10
    /// Frame buffers larger than this are given back to the system after use.
    static let maxIdleBufferBytes = 16 << 20
}

extension WALOptions {
    func validate() throws(WALError) {
        func refuse(_ reason: String) -> WALError { WALError(.configuration, reason) }
        let range = WALLimits.minSegmentBytes...WALLimits.maxSegmentBytes
        guard range.contains(segmentBytes), segmentBytes % FrameFormat.blockBytes == 0 else {
            throw refuse(
                "The log was not opened: segmentBytes is \(segmentBytes); allowed are multiples of "
                    + "\(FrameFormat.blockBytes) in \(range).")
        }
        guard (1...WALLimits.maxGroupsInFlight).contains(maxGroupsInFlight) else {
            throw refuse(
                "The log was not opened: maxGroupsInFlight is \(maxGroupsInFlight); allowed are "
                    + "1 to \(WALLimits.maxGroupsInFlight).")
        }
        guard compressionThresholdBytes ?? 1 > 0 else {
            throw refuse(
                "The log was not opened: compressionThresholdBytes must be over 0, or not be set.")
        }
        guard maxGroupBytes > 0, maxQueueBytes > 0, scrubBytesPerSecond >= 0 else {
            throw refuse(
                "The log was not opened: maxGroupBytes and maxQueueBytes must be over 0, and "
                    + "scrubBytesPerSecond not below.")
        }
    }
}
