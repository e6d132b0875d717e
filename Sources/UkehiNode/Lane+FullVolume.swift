// A log volume without room for another segment.
//
//   as usual ── the preparer finds no room ──→ full ── it finds some ──→ as usual
//
// What is left of the segment in use then, nearly all of it, is kept for what a cluster needs to stay one
// and to get well: votes, a new leader's first entry, changes of members and of regions, compaction,
// deletes. Other writes are refused (`diskFull`), and other entries are not taken from a leader, which
// sends them again. This node's leaders are offered to others once, it takes no leadership that
// is offered, and the balancer sees it as the busiest. Where all nodes are full one of them leads still.

import Logging
import UkehiBase
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    /// At each tick.
    func watchRoom() {
        let isFull = log.lacksRoom
        guard isFull != isDiskFull else { return }
        isDiskFull = isFull
        guard isFull else {
            return logger.info("the log's volume has room again", metadata: ["lane": "\(index)"])
        }
        logger.error(
            "the log's volume is full: only deletes are taken, and leaderships go to other nodes",
            metadata: ["lane": "\(index)"])
        handOverLeaderships()
    }

    /// Whether entries of a leader are those that room is kept for.
    func isFrugal(_ entries: [Entry]) -> Bool {
        entries.allSatisfy { $0.kind != .normal || EntryPayload.isFrugal($0.data) }
    }
}
