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
    private var kept: [(from: NodeID, item: RegionMessage)] = []

    /// More divisions than these are hardly under way at once.
    private static let most = 16
    private static let mostBytes = 64 << 10

    /// Keeps what may be a new region's first append; of each region the newest.
    mutating func keep(_ item: RegionMessage, from node: NodeID) {
        let message = item.message
        guard message.kind == .appendEntries, message.index == SplitRules.firstApplied,
            message.logTerm == SplitRules.firstAppliedTerm,
            message.entries.reduce(0, { $0 + $1.recordBytes }) <= Self.mostBytes
        else { return }
        kept.removeAll { $0.item.region == item.region }
        if kept.count == Self.most { kept.removeFirst() }
        kept.append((node, item))
    }

    /// What was kept of a region.
    mutating func take(_ region: RegionID) -> PeerDelivery? {
        guard let position = kept.firstIndex(where: { $0.item.region == region }) else {
            return nil
        }
        let found = kept.remove(at: position)
        return PeerDelivery(from: found.from, messages: [found.item])
    }
}
