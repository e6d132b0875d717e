// A log without room for another segment: its volume is full, or the process has no descriptor left.
//
//   ample ── the preparer finds no room ──→ last segment ── half of it is used ──→ scarce
//     ▲                                          └──────── it finds some ────────────┘
//     └──────────────────────────────────────────────────────────┘
//
// What is left of the segment in use then, nearly all of it, is kept for what a cluster needs to stay one
// and to get well: votes, a new leader's first entry, changes of members and of regions, the system region,
// compaction, deletes. A leader refuses other writes (`diskFull`), also where too few of its voters'
// nodes have room to commit them. A follower takes what was under way from the first half of what is left;
// then it takes no other entries, which its leader sends again. This node's leaders are offered to nodes
// that have room; where none has, one of them leads still.

import Logging
import UkehiBase
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    var isDiskFull: Bool { room != .ample }

    /// At the beginning, and at each tick.
    func watchRoom() {
        let (now, bytes) = log.roomLeft
        roomBytes = bytes
        guard now != room else { return }
        switch now {
        case .ample: logger.info("the log has room again", metadata: ["lane": "\(index)"])
        case .lastSegment, .scarce:
            logger.error(
                "the log has no room for its next segment: deletes are taken, other writes are not",
                metadata: [
                    "lane": "\(index)", "left": "\(now)",
                    "cause": "\(log.roomShortage.map { "\($0)" } ?? "none any more")",
                ])
        }
        room = now
    }

    /// Once a second: which nodes should lead nothing.
    func learnWhoIsUnfit() {
        let loads = (host?.loads() ?? [:]).filter { $0.value.isUnfit && $0.key != node }
        if loads.isEmpty && unfitNodes.isEmpty { return }
        unfitNodes = Set(loads.keys)
        fullNodes = Set(loads.filter { $0.value.isFull }.keys)
    }

    /// Whether those voters can commit something that are heard, and whose nodes are not known to be full.
    /// What they could not would stand before everything that comes after it.
    private func hasRoomyQuorum(_ region: Region) -> Bool {
        let members = region.descriptor.configuration
        let roomy = Set(
            region.descriptor.peers.filter { member in
                member.peer == region.peer
                    || !fullNodes.contains(member.node)
                        && region.raft.progress(of: member.peer)?.isHeard ?? false
            }.map(\.peer))
        return [members.voters, members.votersOutgoing].allSatisfy { voters in
            voters.isEmpty || 2 * voters.count(where: roomy.contains) > voters.count
        }
    }

    /// Whether a client's command is one to propose now.
    func hasRoom(for record: Bytes, _ region: Region) -> Bool {
        if region.descriptor.isSystem { return true }
        if !isDiskFull && (fullNodes.isEmpty || hasRoomyQuorum(region)) { return true }
        if isDiskFull, !leavesRoom(record.count) { return false }
        return record.withUnsafeBytes(CommandRecord.onlyDeletes)
    }

    /// Whether so much more goes into what is left of the log and leaves some of it: a batch that does not
    /// go in keeps back the votes and deletes behind it.
    private func leavesRoom(_ bytes: Int) -> Bool {
        bytes + batch.encodedBytes <= roomBytes / 2
    }

    /// Whether a leader's entries are to be taken now.
    func hasRoom(for entries: [Entry], _ region: Region) -> Bool {
        guard isDiskFull, !region.descriptor.isSystem else { return true }
        guard leavesRoom(entries.reduce(0) { $0 + $1.data.count }) else { return false }
        return room != .scarce
            || entries.allSatisfy { $0.kind != .normal || EntryPayload.isFrugal($0.data) }
    }

    /// Whether entries go to a node that takes them only if it has room by now: they are sent again with each
    /// heartbeat, and need not go in more than a part of each second.
    func isVain(_ append: Message, _ region: Region, _ slot: Int) -> Bool {
        !append.entries.isEmpty && fullNodes.contains(outboxes[slot].node)
            && Int(ticks % ticksPerSecond) * options.tickMilliseconds
                > 2 * options.heartbeatIntervalMilliseconds
            && region.raft.progress(of: append.to)?.state == .probe
    }
}
