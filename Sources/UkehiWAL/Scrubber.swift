// Where the background check of sealed segments stands, and how fast it may go.

import UkehiBase
import UkehiEnvironment

/// What the check found in a sealed segment. The log goes on; reading the entries answers the same.
package struct LogDamage: Sendable, Hashable {
    /// `.corrupted`, or `.ioFailed` where the disk gives nothing; with the place.
    package var error: WALError
    /// Those in the damaged place. None if it holds none, or none that is still needed.
    package var entries: [DamagedEntries]
}

/// Spends bytes no faster than a rate.
struct ScrubPace {
    private let bytesPerSecond: Double
    private var allowance = 0.0
    private var last: MonotonicTime?

    init(bytesPerSecond: Int) { self.bytesPerSecond = Double(bytesPerSecond) }

    /// What may be spent at once. A frame that is larger is paid for afterwards.
    static let burst = Double(WALLimits.scrubChunkBytes)

    var hasLeft: Bool { allowance > 0 }

    mutating func advance(to now: MonotonicTime) {
        let elapsed = last.map { Double(now - $0) / 1e9 } ?? 0
        last = now
        allowance = min(allowance + elapsed * bytesPerSecond, ScrubPace.burst)
    }

    mutating func spend(_ bytes: UInt64) { allowance -= Double(bytes) }

    /// Until a whole burst may be spent.
    var nanosecondsToBurst: UInt64 {
        UInt64(min(max(ScrubPace.burst - allowance, 0) / bytesPerSecond, 3600) * 1e9)
    }
}

/// The check's place in the log.
///
/// Safety: used by one thread at a time, the preparer or whoever drives the log by hand.
final class Scrubber: @unchecked Sendable {
    /// The next frame, and what it must follow.
    struct Cursor {
        var segment: UInt64
        var reader: FrameReader
        var offset: UInt64
        var lsn: UInt64
        var previousChecksum: UInt32
    }

    var pace: ScrubPace
    /// The segment that is next in this round; nil between rounds.
    var next: UInt64?
    /// The place in that segment, once it was begun.
    var cursor: Cursor?
    /// The newest sealed segment as the round began: a log that grows faster than it is checked ends
    /// a round all the same.
    var lastOfRound: UInt64 = 0
    /// When the next round may begin.
    var nextRound = MonotonicTime(nanoseconds: 0)
    /// Bytes read since the last report to the counters.
    var unreportedBytes: UInt64 = 0
    /// Damage that was told already.
    private var known: Set<LogPosition> = []

    init(bytesPerSecond: Int) { pace = ScrubPace(bytesPerSecond: bytesPerSecond) }

    /// Whether damage at `place` is told for the first time.
    func isNew(_ place: LogPosition) -> Bool {
        known.count < WALLimits.maxKnownDamage && known.insert(place).inserted
    }

    /// Ends a round, and forgets what was in segments that are gone.
    func endRound(oldest: UInt64) {
        next = nil
        cursor = nil
        known = known.filter { $0.segment >= oldest }
    }
}
