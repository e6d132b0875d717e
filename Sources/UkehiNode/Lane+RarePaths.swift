// What a pass may leave for the next one, and what it may do unasked. Simulations only; in production
// each question is a branch that is never taken (RarePaths).

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

extension Lane {
    /// Takes some of the inbox's requests out of it: they become the next pass's.
    func takeLateRequests() -> [ClientRequest] {
        guard !inbox.requests.isEmpty else { return [] }
        let now = rare.pick(0...inbox.requests.count - 1)
        let late = Array(inbox.requests[now...])
        inbox.requests.removeSubrange(now...)
        return late
    }

    /// Makes them requests of the next pass.
    func putBack(_ late: [ClientRequest]) {
        for request in late { localRequestBytes += request.queuedBytes }
        localRequests.append(contentsOf: late)
    }

    /// Puts some of what came in back into the mailbox, whose order is that of arrival only for each
    /// kind by itself: what became durable, what was applied, messages.
    func leaveSomeForLater() {
        if let ticket = inbox.durable, rare.takes(.durableTakenLate) {
            inbox.durable = nil
            post(durable: ticket)
        }
        if !inbox.applied.isEmpty, rare.takes(.appliedTakenLate) {
            // At most one batch is being applied, so that none can have come in behind these.
            for batch in inbox.applied { post(applied: batch) }
            inbox.applied = []
        }
        if !inbox.deliveries.isEmpty, rare.takes(.fewMessages) {
            let now = rare.pick(0...inbox.deliveries.count - 1)
            for delivery in inbox.deliveries[now...] {
                post(delivery.messages, from: delivery.from)
            }
            inbox.deliveries.removeSubrange(now...)
        }
    }

    /// Whether the state is not to begin yet with what waits to be applied; it is asked again with each tick.
    func waitsToDivide() -> Bool {
        if ticks < dividesAt { return true }
        // Once for each division, or those that wait together.
        guard dividesAt == 0 else {
            dividesAt = 0
            return false
        }
        guard applyBatch.items.contains(where: { !($0.change?.parts.isEmpty ?? true) }),
            rare.takes(.dividedLate)
        else { return false }
        dividesAt = ticks + UInt64(rare.pick(1...40))
        return true
    }

    /// Once a second: leadership moves and doubts arise without a reason.
    func meddle(_ region: Region) {
        let others = region.outboxSlots
        if !others.isEmpty {
            if region.isLeader, rare.takes(.officeHandedOver) {
                region.raft.transferLeadership(to: others[rare.pick(0...others.count - 1)].peer)
            }
            if rare.takes(.peerUnreachable) {
                region.raft.reportUnreachable(others[rare.pick(0...others.count - 1)].peer)
            }
        }
        if !region.isLeader, rare.takes(.campaignUnasked) { region.raft.campaign() }
        if !region.isLeader, rare.takes(.leaderForgotten) { region.raft.forgetLeader() }
        markDirty(region)
    }

    /// Ticks for one group's timers in one tick of the lane.
    func ticksDue(_ region: Region) -> Int {
        if rare.takes(.tickMissed) { return 0 }
        return rare.takes(.tickDoubled) ? 2 : 1
    }
}
