// A log without room for another segment: its volume is full, or the process has no descriptor left.
//
//   ample ── the preparer finds no room ──→ last segment ── half of it is used ──→ scarce
//     ▲                                          └──────── it finds some ────────────┘
//     └──────────────────────────────────────────────────────────┘
//
// What is left of the segment in use then, nearly all of it, is kept for what a cluster needs to stay one
// and to get well: votes, a new leader's first entry, changes of members and of regions, the system region,
// compaction, deletes. A leader refuses other writes (`diskFull`), also where too few of its voters'
// nodes have room to commit them. A follower takes what was under way from the first half of what is left, as
// much of an append as has room; then it takes no other entries, which its leader sends again. What is taken is
// counted as it is, since a batch of which a part has no room keeps all of its lane's votes back. This node's leaders are offered to nodes
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
        let (now, bytes, segmentBytes) = log.roomLeft
        roomBytes = bytes / 2
        roomKept = segmentBytes / 16 / options.laneCount
        roomTaken = batch.encodedBytes
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
        guard record.withUnsafeBytes(CommandRecord.onlyDeletes) else { return false }
        guard isDiskFull else { return true }
        return takeRoom(record.count, isClients: true)
    }

    /// Writes that were held back for a while: there may be no room for them any more.
    func judgeAgain(_ region: Region) {
        guard isDiskFull || !fullNodes.isEmpty else { return }
        let writes = region.pendingWrites
        region.pendingWrites = []
        for write in writes {
            if hasRoom(for: write.record, region) {
                region.pendingWrites.append(write)
            } else {
                region.pendingWriteBytes -= write.record.count
                reply(.failed(.rejected(.diskFull)), write.sink, write.tag)
            }
        }
    }

    /// Whether so much more goes into half of what is left of the log, which is taken then: a batch that does not
    /// go in keeps back the votes and deletes behind it. What is of clients goes into this lane's share of that, and
    /// leaves an eighth of the segment: what frees segments has to be written, too.
    private func takeRoom(_ bytes: Int, isClients: Bool) -> Bool {
        let taken = roomTaken + WriteAheadLog.bytesTaken(byRecordOf: bytes)
        guard taken <= roomBytes(forClients: isClients) else { return false }
        roomTaken = taken
        return true
    }

    private func roomBytes(forClients isClients: Bool) -> Int {
        isClients ? roomBytes / options.laneCount - roomKept : roomBytes
    }

    /// How many of a leader's entries are to be taken now, from the first on. The rest is sent again. What the
    /// log has already takes no room: not to hear of it would keep it from being committed.
    func countWithRoom(_ entries: [Entry], _ region: Region) -> Int {
        guard isDiskFull, !region.descriptor.isSystem else { return entries.count }
        let committed = region.raft.committed
        let known = entries.prefix {
            $0.index <= committed || region.raft.term(at: $0.index) == $0.term
        }.count
        var bytes = 0
        var isClients = false
        var count = known
        for entry in entries.dropFirst(known) {
            let isOfClient = entry.kind == .normal && EntryPayload.isOfClients(entry.data)
            guard room != .scarce || !isOfClient || EntryPayload.isFrugal(entry.data) else {
                break
            }
            let next = WriteAheadLog.bytesTaken(byRecordOf: bytes + entry.recordBytes)
            guard roomTaken + next <= roomBytes(forClients: isClients || isOfClient) else {
                break
            }
            bytes += entry.recordBytes
            isClients = isClients || isOfClient
            count += 1
        }
        return count == known || takeRoom(bytes, isClients: isClients) ? count : known
    }

    /// Hands on as much of an append as there is room for.
    func stepWithRoom(_ append: Message, _ region: Region) {
        let count = countWithRoom(append.entries, region)
        guard count > 0 else { return }
        guard count < append.entries.count else { return step(append, region) }
        var part = append
        part.entries.removeSubrange(count...)
        step(part, region)
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
