// A second core in the state of a first: for exploring what a peer might do next, and for that only.
//
// `RaftCore` is not copyable because two copies of one peer could vote twice. A model checker needs
// just that: the same peer, given one message or another. It never lets two copies speak in one
// history.

import UkehiBase

extension RaftLog {
    /// The same log over a storage that holds the same.
    fileprivate init(copyOf other: borrowing RaftLog, storage: LogStorage) {
        self.storage = storage
        buffer = other.buffer
        head = other.head
        bufferBytes = other.bufferBytes
        bufferStart = other.bufferStart
        unstableStart = other.unstableStart
        inProgressEnd = other.inProgressEnd
        snapshot = other.snapshot
        snapshotInProgress = other.snapshotInProgress
        lastIndex = other.lastIndex
        lastTerm = other.lastTerm
        lastRunStart = other.lastRunStart
        committed = other.committed
        applying = other.applying
        applied = other.applied
        applyingBytes = other.applyingBytes
        applyingPaused = other.applyingPaused
        awaitsStorage = other.awaitsStorage
        sliceCache = other.sliceCache
    }
}

extension Office {
    fileprivate func copy() -> Office {
        let copy = Office()
        copy.votes = votes
        copy.transferee = transferee
        copy.mayHaveAbdicated = mayHaveAbdicated
        copy.pendingChangeIndex = pendingChangeIndex
        copy.reads = reads
        copy.earlyReads = earlyReads
        return copy
    }
}

extension RaftCore {
    /// The same core over a storage that holds the same; see this file's head.
    init(copyOf other: borrowing RaftCore, storage: LogStorage) {
        id = other.id
        sharedSettings = other.sharedSettings
        campaignBarrier = other.campaignBarrier
        beginning = other.beginning
        sendsDurableOnly = other.sendsDurableOnly
        log = RaftLog(copyOf: other.log, storage: storage)
        term = other.term
        vote = other.vote
        leader = other.leader
        configuration = other.configuration
        tracker = other.tracker
        heldOffice = other.heldOffice?.copy()
        messages = other.messages
        messagesAfterAppend = other.messagesAfterAppend
        readStates = other.readStates
        uncommittedBytes = other.uncommittedBytes
        role = other.role
        previousRole = other.previousRole
        hasPendingAppends = other.hasPendingAppends
        isDamaged = other.isDamaged
        electionElapsed = other.electionElapsed
        heartbeatElapsed = other.heartbeatElapsed
        randomizedElectionTimeout = other.randomizedElectionTimeout
        now = other.now
        supportedUntil = other.supportedUntil
        jitter = other.jitter
        // Last: setting term and vote above may have raised it.
        hasNewTermOrVote = other.hasNewTermOrVote
    }
}
