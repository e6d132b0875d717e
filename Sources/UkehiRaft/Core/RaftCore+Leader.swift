// What a leader does with messages of its term.

// Hot: append and heartbeat responses.

import UkehiBase

extension RaftCore {
    mutating func stepLeader(_ message: Message) throws(RaftError) {
        switch message.kind {
        case .beat:
            broadcastHeartbeat(context: heartbeatContext)
            return
        case .checkQuorum:
            checkQuorum()
            return
        case .propose:
            try propose(entries: message.entries)
            return
        case .readIndex:
            try readIndex(context: message.context, from: message.from)
            return
        default:
            break
        }
        guard let slot = tracker.slot(of: message.from) else { return }
        switch message.kind {
        case .appendEntriesResponse:
            tracker.peers[slot].recentActive = true
            if message.reject {
                handleRejection(message, slot: slot)
            } else {
                handleAcknowledgement(of: message.index, slot: slot)
            }
        case .heartbeatResponse:
            handleHeartbeatResponse(message, slot: slot)
        case .snapshotStatus:
            handleSnapshotStatus(failed: message.reject, slot: slot)
        case .unreachable:
            // Optimistic appends to it are probably lost.
            if tracker.peers[slot].state == .replicate { tracker.peers[slot].becomeProbe() }
        case .transferLeader:
            transfer(to: message.from, slot: slot)
        default:
            break
        }
    }

    private mutating func handleRejection(_ message: Message, slot: Int) {
        var hint = message.rejectHint
        if message.logTerm > .zero {
            // The follower has `logTerm` at `rejectHint`. Wherever our term is higher the logs can't
            // agree, since terms only grow along a log: one probe per term at most (§5.3, last part).
            hint = log.conflict(from: min(hint, log.lastIndex), term: message.logTerm).index
        }
        if tracker.peers[slot].decrease(rejected: message.index, hint: hint) {
            if tracker.peers[slot].state == .replicate { tracker.peers[slot].becomeProbe() }
            sendAppend(slot: slot)
        }
    }

    private mutating func handleAcknowledgement(of index: LogIndex, slot: Int) {
        // Zero is no acknowledgement but what a peer told this one of an older term, to pass on its own
        // term, and what came late: a follower holds at least what its probe named. Taken for one, it
        // would begin anew at the first index, which the log may long have dropped.
        #if BugBank
            let isCounted = PlantedBug.lateAnswerCounts.isPlanted
        #else
            let isCounted = false
        #endif
        guard index > .zero || tracker.peers[slot].next == LogIndex(1) || isCounted else { return }
        let isNews = tracker.peers[slot].update(to: index)
        guard
            isNews
                || (tracker.peers[slot].match == index && tracker.peers[slot].state == .probe)
        else { return }
        switch tracker.peers[slot].state {
        case .probe:
            tracker.peers[slot].becomeReplicate()
        case .snapshot:
            // Whatever snapshot it took: what counts is that our log goes on from there (RULES 7).
            if tracker.peers[slot].match + 1 >= log.firstIndex {
                tracker.peers[slot].becomeProbe()
                tracker.peers[slot].becomeReplicate()
            }
        case .replicate:
            tracker.peers[slot].inflights.free(upTo: index)
        }

        let peer = tracker.peers[slot].id
        if advanceCommit() {
            releaseEarlyReads()
            broadcastCommit()
        } else if peer != id, tracker.peers[slot].canBumpCommit(to: log.committed),
            !settings.flags.contains(.lazyCommitBroadcast)
        {
            // It may not know the newest commit index, and now holds the entries.
            sendAppend(slot: slot)
        }
        guard peer != id else { return }
        // The window moved: fill it.
        while sendAppend(slot: slot, evenIfEmpty: false) {}
        if peer == transferee, tracker.peers[slot].match == log.lastIndex {
            sendTimeoutNow(to: peer)
        }
    }

    private mutating func handleHeartbeatResponse(_ message: Message, slot: Int) {
        tracker.peers[slot].recentActive = true
        tracker.peers[slot].appendPaused = false
        // A window full of lost appends, or a probe that was lost, would wait for ever.
        if tracker.peers[slot].match < log.lastIndex || tracker.peers[slot].state == .probe {
            sendAppend(slot: slot)
        }
        confirmReads(message)
    }

    private mutating func handleSnapshotStatus(failed: Bool, slot: Int) {
        guard tracker.peers[slot].state == .snapshot else { return }
        if failed { tracker.peers[slot].pendingSnapshot = .zero }
        tracker.peers[slot].becomeProbe()
        // Taken: its append response says so. Failed: the next heartbeat interval tries again.
        tracker.peers[slot].appendPaused = true
    }

    // MARK: Transfer (thesis §3.10)

    private mutating func transfer(to peer: PeerID, slot: Int) {
        guard !tracker.peers[slot].isLearner, peer != transferee else { return }
        office.transferee = .none
        guard peer != id else { return }
        // It must be done within one election timeout.
        electionElapsed = 0
        office.transferee = peer
        if tracker.peers[slot].match == log.lastIndex {
            sendTimeoutNow(to: peer)
        } else {
            sendAppend(slot: slot)
        }
    }

    private mutating func sendTimeoutNow(to peer: PeerID) {
        office.mayHaveAbdicated = true
        messages.append(Message(kind: .timeoutNow, to: peer, from: id, term: term))
    }
}
