// A value expires by its region's logged time, which entries alone carry on (RULES 77). Where nothing is written
// that stands still: whoever reads what has expired by the leader's clock has it carried on.
//
//   read, confirmed ──▶ finds a value that logged time has not passed, and the clock has
//     ──▶ an entry with the clock's time, unless one that is late enough is under way
//     ──▶ applied: read again, by logged time alone
//
// Such a read costs an entry; each value that expires, one at most. Nobody can tell the difference from a clock that
// is proposed whenever something expires, and where nobody looks nothing is written.

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

/// Reads that wait for an entry that carries the clock.
struct DueReads {
    var index: LogIndex
    var time: UInt64
    var reads: [PendingRead]
}

extension Lane {
    /// The wall clock, asked once a pass at most.
    func wallTimeOfPass() -> UInt64 {
        if passWallTime == 0 { passWallTime = clock.wallNanoseconds() }
        return passWallTime
    }

    /// A read that was confirmed waits until logged time has passed `time`.
    func holdBack(_ read: PendingRead, until time: UInt64, _ region: Region) {
        guard region.isLeader, region.raft.isLeader else {
            return reply(.failed(region.notLeader), to: read)
        }
        var read = read
        read.mindsClock = false
        if let last = region.dueReads.indices.last, region.dueReads[last].time >= time {
            return region.dueReads[last].reads.append(read)
        }
        let now = max(clock.wallNanoseconds(), time)
        do throws(RaftError) {
            let position = try region.raft.propose(
                EntryPayload.encode(time: now, epoch: region.descriptor.epoch))
            remember(
                Proposal(
                    index: position.index, term: position.term,
                    deadline: MonotonicTime(nanoseconds: .max), waiters: []), region)
            region.dueReads.append(DueReads(index: position.index, time: now, reads: [read]))
            markDirty(region)
            if !isInPass { scheduleLocally() }
        } catch {
            reply(.failed(.rejected(.overloaded)), to: read)
        }
    }

    /// Serves those whose entry is applied.
    func serveDueReads(_ region: Region) {
        while let first = region.dueReads.first, first.index <= region.applied {
            region.dueReads.removeFirst()
            for read in first.reads { serve(read, region) }
        }
    }

    /// Leadership is gone: whether the entry is ever applied is not known.
    func failDueReads(_ region: Region) {
        let answer = Reply.failed(region.notLeader)
        for due in region.dueReads { for read in due.reads { reply(answer, to: read) } }
        region.dueReads = []
    }
}
