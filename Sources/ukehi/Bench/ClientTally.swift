// What a lane of clients has seen: latencies, acknowledged writes, and what went wrong.

import UkehiBase
import UkehiNode

/// One lane's findings. Used under its owner's lock.
struct ClientTally: @unchecked Sendable {
    // Safety: see above; the recorders and the table are owned by one lane.
    let writes = LatencyRecorder()
    let reads = LatencyRecorder()
    let table: AckTable
    var unknown = UnknownWrites()
    var failedConditions: UInt64 = 0
    var retries: UInt64 = 0
    var unknownOutcomes: UInt64 = 0
    /// The first answer that cannot be right, or a request that was called invalid.
    var violation: String?

    init(keyCount: Int) { table = AckTable(count: keyCount) }

    /// Starts the measured part: rates and latencies from here on; what was acknowledged stays.
    mutating func beginMeasuring() {
        writes.reset()
        reads.reset()
        failedConditions = 0
        retries = 0
        unknownOutcomes = 0
    }

    mutating func note(violation text: @autoclosure () -> String) {
        if violation == nil { violation = text() }
    }
}

/// What one slot of a lane is doing.
struct ClientSlot {
    /// When the client wanted this operation: its latency counts from here, over all tries.
    var intended: UInt64 = 0
    /// When this try was handed over.
    var called: UInt64 = 0
    /// Of the value being written.
    var stamp: UInt64 = 0
    /// Number of the key.
    var key = 0
    /// A read: the version acknowledged for its key before it began, which it must see.
    var floor: UInt64 = 0
    /// Operations of this client so far.
    var sequence: UInt64 = 0
    var kind = OperationKind.put
    var step = Step.fresh
    /// A read-modify-write: the version that it read, on whose being there still it writes; 0: none.
    var seen: UInt64 = 0

    /// What the client does next.
    enum Step: UInt8, Sendable {
        /// Whatever is drawn.
        case fresh
        /// The same again, which was refused.
        case again
        /// The read of a read-modify-write.
        case read
        /// Its write.
        case write
    }
}

/// What a history needs beside: only kept when asked for.
struct SlotMemory {
    /// Unique among all clients, at any time.
    var process: Int
    var key = Bytes()
    var value: Bytes?
    var expected: Bytes?
    /// What this client last saw of a key: what its next compare-and-set expects.
    var knownKey = -1
    var known: Bytes?
}
