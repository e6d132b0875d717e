// A log that does not answer. Heartbeats go on without the disk, so that by itself its leaders would stay
// for as long as it stands still, or is full, and its candidates would ask it for one more vote after
// each timeout, which it has to write before it gets to anything else.
//
//   what was handed to the log waits ── two election timeouts ──→ stalled ── it is durable ──→ as before
//
// While it is stalled this node's leaders are handed to others, once in so many ticks, and no peer of it
// that does not lead runs out of patience with its leader. It still votes and takes entries, late.

import Logging
import UkehiBase
import UkehiRaft

/// Since when a lane's log does not answer.
struct LogStall {
    /// The lane's ticks.
    var since: UInt64
    /// At which leaderships are handed over next: one that nobody took is not offered without end, since
    /// nothing can be proposed meanwhile.
    var handsOverAt: UInt64
}

extension Lane {
    /// Ticks for which the log may leave something undone before that counts.
    private var ticksUntilStalled: UInt64 {
        2 * UInt64(options.electionTimeoutMilliseconds / options.tickMilliseconds)
    }

    /// At each tick, before those of the groups.
    func watchLog() {
        let patience = ticksUntilStalled
        // What was refused, for want of room, waits longer than what is on its way.
        guard let since = [inFlight.first?.since, refusedSince].compactMap({ $0 }).min(),
            ticks >= since + patience
        else {
            if let stall = logStall {
                logger.info(
                    "the log answers again",
                    metadata: [
                        "lane": "\(index)", "after_ms": "\(milliseconds(since: stall.since))",
                    ])
                logStall = nil
            }
            return
        }
        if logStall == nil {
            logger.warning(
                "the log does not get done what it was asked for; leaderships go to other nodes",
                metadata: [
                    "lane": "\(index)", "for_ms": "\(milliseconds(since: since))",
                    "reason": isDiskFull ? "the volume is full" : "the disk does not answer",
                ])
            logStall = LogStall(since: since, handsOverAt: ticks)
        }
        guard let stall = logStall, ticks >= stall.handsOverAt else { return }
        logStall?.handsOverAt = ticks + patience
        handOverLeaderships()
    }

    /// Offers each leadership of this lane to the peer that lacks least.
    func handOverLeaderships() {
        for region in orderedRegions where region.isLeader {
            guard region.raft.leadTransferee == .none,
                let heir = MemberEngine.heir(memberView(of: region))
            else { continue }
            transferLeadership(of: region.id, to: heir)
        }
    }

    /// Whether no peer of this lane should lead.
    var isUnfit: Bool { logStall != nil || isDiskFull }

    private func milliseconds(since tick: UInt64) -> UInt64 {
        (ticks - tick) * UInt64(options.tickMilliseconds)
    }
}
