// What a leader sends to whom (Raft §5.3): appends within each follower's window, snapshots where the
// log no longer reaches back, heartbeats, the commit index.

// Hot: called for every message a leader handles.

import UkehiBase

extension RaftCore {
    /// Sends the peer in `slot` what comes next, an empty append if nothing does and `evenIfEmpty`.
    /// Returns whether something was sent.
    @discardableResult
    mutating func sendAppend(slot: Int, evenIfEmpty: Bool = true) -> Bool {
        if tracker.peers[slot].isPaused { return false }
        let next = tracker.peers[slot].next
        let previous = next - 1
        guard previous > .zero || beginsAt == .zero, let previousTerm = log.term(at: previous)
        else { return sendSnapshot(slot: slot) }

        var entries: [Entry] = []
        var isCompacted = false
        // With a full window an append goes out empty: its answer, or its loss and the next
        // heartbeat's, frees the window that lost messages would fill for ever.
        if tracker.peers[slot].state != .replicate || !tracker.peers[slot].inflights.isFull {
            do {
                entries = try log.entries(from: next, maxBytes: settings.maxMessageBytes)
            } catch {
                if error == .temporarilyUnavailable {
                    tracker.peers[slot].awaitsStorage = true
                    return false
                }
                isCompacted = true
            }
        }
        if sendsDurableOnly, let last = entries.last, last.index >= log.unstableStart {
            entries.removeAll { $0.index >= log.unstableStart }
        }
        if entries.isEmpty, !evenIfEmpty { return false }
        if isCompacted { return sendSnapshot(slot: slot) }

        var payload: UInt64 = 0
        for entry in entries { payload += UInt64(entry.data.count) }
        let count = entries.count
        messages.append(
            Message(
                kind: .appendEntries, to: tracker.peers[slot].id, from: id, term: term,
                logTerm: previousTerm, index: previous, commit: log.committed, entries: entries))
        tracker.peers[slot].sentEntries(count, bytes: payload)
        tracker.peers[slot].sentCommit = log.committed
        return true
    }

    private mutating func sendSnapshot(slot: Int) -> Bool {
        // A peer that is away could not take it; it is asked for again when heard from.
        guard tracker.peers[slot].recentActive else { return false }
        let snapshot: Snapshot
        if let box = log.snapshot {
            snapshot = box.value
        } else {
            guard let stored = try? log.storage.snapshot() else { return false }
            snapshot = stored
        }
        guard !snapshot.isEmpty, snapshot.index <= log.lastIndex else { return false }
        // One from before the peer was added is refused by it: wait for the storage to make a newer one.
        let state = snapshot.configuration
        let peer = tracker.peers[slot].id
        guard
            state.voters.contains(peer) || state.learners.contains(peer)
                || state.votersOutgoing.contains(peer)
        else { return false }
        tracker.peers[slot].becomeSnapshot(snapshot.index)
        messages.append(
            Message(
                kind: .installSnapshot, to: tracker.peers[slot].id, from: id, term: term,
                snapshot: snapshot))
        return true
    }

    /// Sends appends to all other peers.
    mutating func broadcastAppend() {
        for slot in tracker.peers.indices where tracker.peers[slot].id != id {
            sendAppend(slot: slot)
        }
    }

    /// Sends what has become durable, where nothing goes out before.
    mutating func broadcastDurable() {
        for slot in tracker.peers.indices where tracker.peers[slot].id != id {
            while sendAppend(slot: slot, evenIfEmpty: false) {}
        }
    }

    /// Sends what was appended since the last Ready.
    mutating func sendPendingAppends() {
        guard hasPendingAppends else { return }
        hasPendingAppends = false
        if role == .leader { broadcastAppend() }
    }

    /// Tells the others of a commit advance, or leaves it to the next append, heartbeat or flush.
    mutating func broadcastCommit() {
        guard settings.flags.contains(.lazyCommitBroadcast) else {
            broadcastAppend()
            return
        }
        for slot in tracker.peers.indices where tracker.peers[slot].id != id {
            sendAppend(slot: slot, evenIfEmpty: false)
        }
    }

    /// Tells every peer that was not told the newest commit index it may act on.
    mutating func flushCommit() {
        guard role == .leader else { return }
        for slot in tracker.peers.indices where tracker.peers[slot].id != id {
            if tracker.peers[slot].state == .replicate,
                tracker.peers[slot].canBumpCommit(to: log.committed)
            {
                sendAppend(slot: slot)
            }
        }
    }

    mutating func broadcastHeartbeat(context: Bytes) {
        for slot in tracker.peers.indices where tracker.peers[slot].id != id {
            // Not past what the peer is known to hold: the rest of its log may be another leader's.
            #if BugBank
                let commit =
                    PlantedBug.heartbeatTellsEverything.isPlanted
                    ? log.committed : min(tracker.peers[slot].match, log.committed)
            #else
                let commit = min(tracker.peers[slot].match, log.committed)
            #endif
            messages.append(
                Message(
                    kind: .heartbeat, to: tracker.peers[slot].id, from: id, term: term,
                    commit: commit, context: context))
            tracker.peers[slot].sentCommit = commit
        }
    }

    /// Commits what a quorum holds, if its last entry is of our term (§5.4.2, RULES 3). Returns
    /// whether the commit index rose.
    mutating func advanceCommit() -> Bool {
        let reached = tracker.committed(configuration)
        guard reached > log.committed else { return false }
        #if BugBank
            if PlantedBug.commitsOldTermByCount.isPlanted {
                log.commit(to: reached)
                return true
            }
        #endif
        guard log.term(at: reached) == term else { return false }
        log.commit(to: reached)
        return true
    }

    /// Goes on where entries had to be read from the storage first.
    mutating func storageFetched() {
        log.awaitsStorage = false
        for slot in tracker.peers.indices where tracker.peers[slot].awaitsStorage {
            tracker.peers[slot].awaitsStorage = false
            while sendAppend(slot: slot, evenIfEmpty: false) {}
        }
    }
}
