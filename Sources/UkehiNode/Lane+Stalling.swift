// A log that does not answer. Heartbeats go on without the disk, so that by itself its leaders would stay
// for as long as it stands still, and its candidates would ask it for one more vote after each timeout,
// which it has to write before it gets to anything else.
//
//   what was handed to the log waits ── two election timeouts ──→ stalled ── it is durable ──→ as before
//
// While it is stalled this node's leaders are offered to others, once in so many ticks, and no peer of it
// that loses its leader campaigns. It still votes and takes entries, late. The balancer leaves it in peace
// for a while after that: a disk that failed under its leaders' load would fail again.

import Logging
import UkehiBase
import UkehiRaft

/// Since when a lane's log does not answer.
struct LogStall {
    /// The lane's tick.
    var since: UInt64
}

extension Lane {
    /// Ticks for which the log may leave something undone before that counts, and from one offer of a
    /// leadership to the next: nothing can be proposed while one is under way.
    private var ticksUntilStalled: UInt64 {
        2 * UInt64(options.electionTimeoutMilliseconds / options.tickMilliseconds)
    }

    /// At each tick, before those of the groups.
    func watchLog() {
        // What was refused, for want of room, waits longer than what is on its way.
        let since = [inFlight.first?.since, refusedSince].compactMap { $0 }.min()
        let isStalled = since.map { ticks >= $0 + ticksUntilStalled } ?? false
        if let since, isStalled, logStall == nil {
            logStall = LogStall(since: since)
            logger.warning(
                "the log does not get done what it was asked for; leaderships go to other nodes",
                metadata: ["lane": "\(index)", "for_ms": "\(milliseconds(since: since))"])
        } else if let stall = logStall, !isStalled {
            logStall = nil
            calmAt = ticks + Limits.secondsUntilCalm * ticksPerSecond
            for region in orderedRegions { region.raft.holdsCampaigns = false }
            logger.info(
                "the log answers again",
                metadata: ["lane": "\(index)", "after_ms": "\(milliseconds(since: stall.since))"])
        }
        // Of each, since some may have been opened meanwhile.
        if isStalled { for region in orderedRegions { region.raft.holdsCampaigns = true } }
        if isUnfit, ticks >= handsOverAt {
            handsOverAt = ticks + ticksUntilStalled
            handOverLeaderships()
        }
    }

    /// Whether no peer of this lane should lead.
    var isUnfit: Bool { logStall != nil || isDiskFull }

    /// Offers each leadership of this lane to the peer that lacks least, of those whose nodes are fit.
    private func handOverLeaderships() {
        for region in orderedRegions where region.isLeader {
            guard region.raft.leadTransferee == .none,
                let heir = MemberEngine.heir(memberView(of: region))
            else { continue }
            transferLeadership(of: region.id, to: heir)
        }
    }

    private func milliseconds(since tick: UInt64) -> UInt64 {
        (ticks - tick) * UInt64(options.tickMilliseconds)
    }
}
