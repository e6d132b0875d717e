// What a message does before anything else: its term is compared with ours, which may make us a
// follower or the message old news (Raft §5.1). Votes are the same in every role.

import UkehiBase

extension RaftCore {
    /// Takes a validated message from a peer, the storage or this peer's own queue.
    mutating func step(_ message: Message) throws(RaftError) {
        if message.term != term, message.term != .zero {
            if message.term < term {
                #if BugBank
                    if PlantedBug.staleLeaderObeyed.isPlanted, role == .follower,
                        [.appendEntries, .heartbeat].contains(message.kind)
                    {
                        return try stepFollower(message)
                    }
                    if PlantedBug.oldVotesCounted.isPlanted, role == .candidate,
                        message.kind == .requestVoteResponse
                    {
                        return try stepCandidate(message)
                    }
                #endif
                answerOldTerm(message)
                return
            }
            guard enterTerm(of: message) else { return }
        }
        if message.reject, settings.flags.contains(.refusalTellsCommit) { learnCommit(of: message) }
        switch message.kind {
        case .hup:
            campaign()
        case .storageAppendResponse:
            if message.index != .zero { log.stable(to: message.index, term: message.logTerm) }
            if let box = message.snapshotBox { try appliedSnapshot(at: box.value.index) }
            if sendsDurableOnly, role == .leader { broadcastDurable() }
        case .storageApplyResponse:
            try appliedEntries(message.entries)
        case .requestVote, .requestPreVote:
            answerVoteRequest(message)
        default:
            switch role {
            case .leader: try stepLeader(message)
            case .follower: try stepFollower(message)
            case .candidate, .preCandidate: try stepCandidate(message)
            }
        }
    }

    /// Follows a higher term, where its message asks for that; false when it is to be ignored.
    private mutating func enterTerm(of message: Message) -> Bool {
        switch message.kind {
        case .requestVote, .requestPreVote:
            // A leader heard within the election timeout is not to be disturbed by a peer that came
            // back from a partition, or was removed: not even its term counts (thesis §6.2, RULES 5).
            let holdsLease =
                settings.flags.contains(.checkQuorum) && leader != .none
                && electionElapsed < settings.electionTicks
            if holdsLease || isSupporting, !CampaignContext.isTransfer(message.context) {
                return false
            }
            if message.kind == .requestPreVote { return true }
            becomeFollower(term: message.term, leader: .none)
        case .requestPreVoteResponse where !message.reject:
            // Granted for the term we asked about; we enter it when a quorum has.
            break
        case .appendEntries, .heartbeat, .installSnapshot:
            becomeFollower(term: message.term, leader: message.from)
        default:
            becomeFollower(term: message.term, leader: .none)
        }
        return true
    }

    /// Answers a message of a term that has passed, where silence could leave its sender stuck.
    private mutating func answerOldTerm(_ message: Message) {
        switch message.kind {
        case .heartbeat, .appendEntries:
            // With these two a higher term spreads by no vote request, so that a leader must learn of
            // ours here: a peer that was away with a higher term could never rejoin (RULES 5).
            if !settings.flags.isDisjoint(with: [.checkQuorum, .preVote]) {
                respond(Message(kind: .appendEntriesResponse, to: message.from))
            }
        case .requestPreVote:
            refuse(message, .requestPreVoteResponse)
        case .storageAppendResponse:
            // The entries may have been overwritten since; a snapshot is committed state, and stays.
            if let box = message.snapshotBox { try? appliedSnapshot(at: box.value.index) }
        default:
            break
        }
    }

    /// Raft §5.2 and §5.4.1. A learner votes too: it may have been promoted without knowing.
    private mutating func answerVoteRequest(_ message: Message) {
        let isPreVote = message.kind == .requestPreVote
        let answer: MessageKind = isPreVote ? .requestPreVoteResponse : .requestVoteResponse
        if mayVote(message), isUpToDate(message) {
            // The request's term, not ours: for a pre-vote ours may be older, and the candidate would
            // ignore it.
            messagesAfterAppend.append(
                Message(kind: answer, to: message.from, from: id, term: message.term))
            if !isPreVote {
                electionElapsed = 0
                vote = message.from
            }
        } else {
            refuse(message, answer)
        }
    }

    private mutating func refuse(_ request: Message, _ kind: MessageKind) {
        var refusal = Message(kind: kind, to: request.from, from: id, term: term, reject: true)
        if settings.flags.contains(.refusalTellsCommit), let known = log.term(at: log.committed) {
            refusal.commit = log.committed
            refusal.logTerm = known
        }
        messagesAfterAppend.append(refusal)
    }

    /// A candidate was refused by a peer that knows more entries to be committed. Where it has the last of
    /// them it has them all (Raft §5.3), and they may change who is to be asked.
    private mutating func learnCommit(of refusal: Message) {
        switch refusal.kind {
        case .requestVoteResponse, .requestPreVoteResponse: break
        default: return
        }
        guard role != .leader, refusal.commit > log.committed, log.snapshot == nil,
            log.matches(refusal.commit, refusal.logTerm)
        else { return }
        log.commit(to: refusal.commit)
        guard role != .follower,
            log.hasUnappliedConfChange(pageBytes: settings.maxApplyingBytes) != false
        else { return }
        becomeFollower(term: term, leader: .none)
    }

    private func mayVote(_ request: Message) -> Bool {
        #if BugBank
            if PlantedBug.votesTwice.isPlanted { return true }
        #endif
        return vote == request.from
            || (vote == .none && leader == .none)
            || (request.kind == .requestPreVote && request.term > term)
    }

    private func isUpToDate(_ request: Message) -> Bool {
        #if BugBank
            if PlantedBug.candidateLogUnchecked.isPlanted { return true }
        #endif
        return log.isUpToDate(index: request.index, term: request.logTerm)
    }

    /// Queues an answer at our term, to go out when what it speaks of is durable.
    mutating func respond(_ message: consuming Message) {
        message.from = id
        message.term = term
        if settings.flags.contains(.coalesceAcknowledgements), !message.reject,
            let last = messagesAfterAppend.indices.last,
            messagesAfterAppend[last].kind == .appendEntriesResponse,
            messagesAfterAppend[last].to == message.to, messagesAfterAppend[last].term == term,
            !messagesAfterAppend[last].reject
        {
            messagesAfterAppend[last].index = max(messagesAfterAppend[last].index, message.index)
            return
        }
        messagesAfterAppend.append(message)
    }

    // MARK: Answers of the state machine

    private mutating func appliedEntries(_ entries: [Entry]) throws(RaftError) {
        guard let last = entries.last else { return }
        guard last.index <= log.applying else { throw .malformed(.unknownStorageWork) }
        var bytes: UInt64 = 0
        var counted: UInt64 = 0
        for entry in entries {
            bytes += UInt64(entry.recordBytes)
            counted += Self.countedBytes(entry.kind, entry.data)
        }
        applied(to: last.index, bytes: bytes)
        uncommittedBytes -= min(uncommittedBytes, counted)
    }

    private mutating func appliedSnapshot(at index: LogIndex) throws(RaftError) {
        guard index <= log.committed else { throw .malformed(.unknownStorageWork) }
        log.stableSnapshot(at: index)
        applied(to: index, bytes: 0)
    }

    private mutating func applied(to index: LogIndex, bytes: UInt64) {
        log.applied(
            to: max(index, log.applied), bytes: bytes, maxBytes: settings.maxApplyingBytes)
        leaveJointIfDue()
    }

    /// A joint configuration that is left by itself is left as soon as it is applied. The proposal is dropped
    /// while a transfer is under way: then at the next applied entry, or within an election timeout.
    mutating func leaveJointIfDue() {
        guard configuration.autoLeave, role == .leader, log.applied >= pendingChangeIndex else {
            return
        }
        _ = try? propose(kind: .confChangeV2, data: Bytes())
    }
}
