// The window of appends on their way to one follower (RULES 7).
//
//   ring   | 17, 900 B | 21, 400 B | 30, 2 kB |   |   |
//            ^ start                            count = 3, bytes = 3.3 kB
//
// Each slot is one message: its last index and its payload bytes. The window is full by count or
// by bytes; the byte bound is what keeps a slow follower from being sent more than a link holds.

import UkehiBase

/// Messages sent and not acknowledged, oldest first, bounded by count and bytes.
///
/// Invariant: indexes ascend; `bytes` is the sum over the ring; the ring grows by doubling up to
/// the count bound and is never shrunk while in use.
struct Inflights: Sendable {
    struct Slot: Sendable {
        var index: LogIndex
        var bytes: UInt64
    }

    private var ring: [Slot] = []
    private var start: UInt32 = 0
    private(set) var count: UInt32 = 0
    private let maxCount: UInt32
    private(set) var bytes: UInt64 = 0
    private let maxBytes: UInt64

    /// `maxBytes` of zero means no bound on bytes.
    init(maxCount: UInt32, maxBytes: UInt64) {
        self.maxCount = maxCount
        self.maxBytes = maxBytes
    }

    var isFull: Bool { count >= maxCount || (maxBytes != 0 && bytes >= maxBytes) }

    /// Records a message whose last entry is `index`. The window must not be full.
    mutating func add(_ index: LogIndex, bytes added: UInt64) {
        invariant(!isFull, "an append was sent to a follower whose window is full")
        if Int(count) == ring.count { grow() }
        var place = start + count
        if place >= ring.count { place -= UInt32(ring.count) }
        ring[Int(place)] = Slot(index: index, bytes: added)
        count += 1
        bytes &+= added
    }

    /// Forgets messages whose last entry is at or below `index`.
    mutating func free(upTo index: LogIndex) {
        while count > 0, ring[Int(start)].index <= index {
            bytes &-= ring[Int(start)].bytes
            start += 1
            if start == ring.count { start = 0 }
            count -= 1
        }
        if count == 0 { start = 0 }
    }

    mutating func reset() {
        start = 0
        count = 0
        bytes = 0
    }

    private mutating func grow() {
        var larger: [Slot] = []
        let capacity = min(max(ring.count * 2, 4), Int(maxCount))
        larger.reserveCapacity(capacity)
        for offset in 0..<Int(count) {
            var place = Int(start) + offset
            if place >= ring.count { place -= ring.count }
            larger.append(ring[place])
        }
        while larger.count < capacity { larger.append(Slot(index: .zero, bytes: 0)) }
        ring = larger
        start = 0
    }
}
