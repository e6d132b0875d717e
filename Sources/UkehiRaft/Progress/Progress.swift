// What a leader knows of one peer's log, and what it may send to it next (Raft §5.3; etcd's
// tracker.Progress).
//
//             rejected or unreachable
//   probe <──────────────────────────── replicate      probe: one append per heartbeat, next is a guess
//     │  ──────────────────────────────▶     ▲         replicate: optimistic, next runs ahead
//     │ log compacted        acknowledged    │         snapshot: nothing but the snapshot
//     ▼                                      │
//   snapshot ────────────────────────────────┘  an append response that reconnects to our log

import UkehiBase

/// How a leader talks to a peer.
public enum ProgressState: UInt8, Sendable, Hashable {
    case probe, replicate, snapshot
}

/// A leader's view of one peer, itself included.
///
/// Invariant: match < next. In `snapshot`: next == pendingSnapshot + 1.
struct Progress: Sendable {
    let id: PeerID
    /// The peer holds our log up to here.
    var match: LogIndex
    /// The next entry to send; what lies between is in flight.
    var next: LogIndex
    /// The highest commit index told to the peer, as far as it may act on it.
    var sentCommit: LogIndex = .zero
    /// In `snapshot`: the index of the snapshot sent.
    var pendingSnapshot: LogIndex = .zero
    var inflights: Inflights
    var state: ProgressState = .probe
    /// Heard from since the last quorum check.
    var recentActive: Bool
    /// Heard from between the last quorum check and the one before: whoever looks right behind a check would
    /// take everybody for silent.
    var wasActive = false
    /// No more appends until the peer answers something.
    var appendPaused = false
    var isLearner: Bool
    /// Entries for it are being read from the log; see ``RawNode/storageFetched()``.
    var awaitsStorage = false

    init(
        id: PeerID, match: LogIndex, next: LogIndex, inflights: Inflights, isLearner: Bool,
        recentActive: Bool
    ) {
        self.id = id
        self.match = match
        self.next = next
        self.inflights = inflights
        self.isLearner = isLearner
        self.recentActive = recentActive
    }

    /// Whether nothing may be sent, not even an empty append.
    var isPaused: Bool { state == .snapshot || appendPaused }

    private mutating func enter(_ newState: ProgressState) {
        appendPaused = false
        pendingSnapshot = .zero
        state = newState
        inflights.reset()
    }

    /// Goes back to guessing; after a snapshot from behind it.
    mutating func becomeProbe() {
        if state == .snapshot {
            let sent = pendingSnapshot
            enter(.probe)
            next = max(match + 1, sent + 1)
        } else {
            enter(.probe)
            next = match + 1
        }
        sentCommit = min(sentCommit, next - 1)
    }

    mutating func becomeReplicate() {
        enter(.replicate)
        next = match + 1
    }

    mutating func becomeSnapshot(_ index: LogIndex) {
        enter(.snapshot)
        pendingSnapshot = index
        next = index + 1
        sentCommit = index
    }

    /// Accounts for an append with `count` entries from `next` on. Not in `snapshot`.
    mutating func sentEntries(_ count: Int, bytes: UInt64) {
        switch state {
        case .replicate:
            if count > 0 {
                next = next + UInt64(count)
                inflights.add(next - 1, bytes: bytes)
            }
            // A message that fills the window, or is sent while it is full, is a probe: the next
            // one waits for an answer.
            appendPaused = inflights.isFull
        case .probe:
            if count > 0 { appendPaused = true }
        case .snapshot:
            invariant(false, "an append was sent to a peer that waits for a snapshot")
        }
    }

    /// Whether telling the peer `commit` could raise its commit index: only up to what it was sent.
    func canBumpCommit(to commit: LogIndex) -> Bool {
        commit > sentCommit && sentCommit < next - 1
    }

    /// Takes an acknowledgement up to `index`; false when it is old news.
    mutating func update(to index: LogIndex) -> Bool {
        guard index > match else { return false }
        match = index
        next = max(next, index + 1)
        appendPaused = false
        return true
    }

    /// Takes a rejection of the append after `rejected`; `hint` is the highest index that may match.
    /// False when it is old news: messages are repeated and reordered.
    mutating func decrease(rejected: LogIndex, hint: LogIndex) -> Bool {
        if state == .replicate {
            if rejected <= match { return false }
            next = match + 1
            sentCommit = min(sentCommit, next - 1)
            return true
        }
        // While probing, only the answer to the outstanding probe counts.
        if next - 1 != rejected { return false }
        next = max(min(rejected, hint + 1), match + 1)
        sentCommit = min(sentCommit, next - 1)
        appendPaused = false
        return true
    }
}
