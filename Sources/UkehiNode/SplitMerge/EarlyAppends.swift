// What the first leader of a new region says before the region is here.
//
//   leader's node   applies the division ──> leads ──> its first append ─────┐
//   this node       hears that it is committed ──> births durable ──> applies it ──> region opened
//                                                          kept until then ──┘
//
// The leader is ahead of the others by a message at least. Dropped, its append would be sent again only
// when the peer has said that it is here: a round trip in which no write of the new region is
// acknowledged.

import UkehiBase
import UkehiEnvironment
import UkehiRaft

/// The first appends of regions that are not here, a few of them. To keep one is never wrong, since a message
/// may take any time; to lose one neither.
struct EarlyAppends {
    private struct Kept {
        var from: NodeID
        var item: RegionMessage
        var tick: UInt64
    }
    private var kept: [Kept] = []

    /// More divisions than these are hardly under way at once.
    private static let most = 16
    private static let mostBytes = 16 << 10
    /// Older ones are not what a leader says now: it may be gone, and should not count as just heard.
    private static let mostTicks: UInt64 = 4

    /// Keeps what may be a new region's first append; of each region the newest.
    mutating func keep(_ item: RegionMessage, from node: NodeID, at tick: UInt64) {
        let message = item.message
        guard message.kind == .appendEntries, message.index == SplitRules.firstApplied,
            message.logTerm == SplitRules.firstAppliedTerm, message.context.isEmpty,
            message.entries.reduce(0, { $0 + $1.recordBytes }) <= Self.mostBytes
        else { return }
        forget(at: tick)
        kept.removeAll { $0.item.region == item.region }
        if kept.count == Self.most { kept.removeFirst() }
        var item = item
        // Not slices of the whole that came with it.
        item.message.entries = message.entries.map { entry in
            var entry = entry
            entry.data = Bytes(entry.data.array)
            return entry
        }
        kept.append(Kept(from: node, item: item, tick: tick))
    }

    /// What was kept of a region, if it was a moment ago.
    mutating func take(_ region: RegionID, at tick: UInt64) -> PeerDelivery? {
        forget(at: tick)
        guard let position = kept.firstIndex(where: { $0.item.region == region }) else {
            return nil
        }
        let found = kept.remove(at: position)
        return PeerDelivery(from: found.from, messages: [found.item])
    }

    /// Lets go of what is old.
    mutating func forget(at tick: UInt64) {
        if !kept.isEmpty { kept.removeAll { $0.tick + Self.mostTicks < tick } }
    }
}
