// What followers and candidates do with messages of their term (Raft §5.2, §5.3, §7).

import UkehiBase

extension RaftCore {
    mutating func stepFollower(_ message: Message) throws(RaftError) {
        switch message.kind {
        case .appendEntries:
            electionElapsed = 0
            leader = message.from
            handleAppend(message)
        case .heartbeat:
            electionElapsed = 0
            leader = message.from
            handleHeartbeat(message)
        case .installSnapshot:
            electionElapsed = 0
            leader = message.from
            handleSnapshot(message)
        case .propose:
            guard leader != .none else { throw .proposalDropped(.notLeader(hint: nil)) }
            guard !settings.flags.contains(.disableForwarding) else {
                throw .proposalDropped(.notLeader(hint: leader))
            }
            forward(message)
        case .transferLeader:
            if leader != .none { forward(message) }
        case .readIndex:
            guard leader != .none else { throw .noLeader }
            forward(message)
        case .readIndexResponse:
            readStates.append(ReadState(index: message.index, context: message.context))
        case .forgetLeader:
            // A lease is a promise to this leader; forgetting it would break it.
            if !settings.flags.contains(.leaseReads), !isSupporting { leader = .none }
        case .timeoutNow:
            // No pre-vote: we are not coming back from a partition.
            start(.transfer)
        default:
            break
        }
    }

    mutating func stepCandidate(_ message: Message) throws(RaftError) {
        switch message.kind {
        case .propose:
            throw .proposalDropped(.notLeader(hint: nil))
        case .readIndex:
            if message.from == .none || message.from == id { throw .noLeader }
        case .appendEntries:
            becomeFollower(term: message.term, leader: message.from)
            handleAppend(message)
        case .heartbeat:
            becomeFollower(term: message.term, leader: message.from)
            handleHeartbeat(message)
        case .installSnapshot:
            becomeFollower(term: message.term, leader: message.from)
            handleSnapshot(message)
        case .requestVoteResponse where role == .candidate,
            .requestPreVoteResponse where role == .preCandidate:
            count(vote: !message.reject, of: message.from)
        default:
            break
        }
    }

    /// Sends a message on to the leader.
    private mutating func forward(_ message: Message) {
        var message = message
        message.to = leader
        if message.from == .none { message.from = id }
        // Proposals and reads are the leader's own, of whatever term it has.
        message.term = message.kind == .transferLeader ? term : .zero
        messages.append(message)
    }

    private mutating func handleAppend(_ message: Message) {
        if message.index < log.committed {
            respond(
                Message(kind: .appendEntriesResponse, to: message.from, index: log.committed))
            return
        }
        if log.append(message.entries, after: message.index, term: message.logTerm) {
            let last = message.index + UInt64(message.entries.count)
            // Not to our last entry: what lies behind `last` may be of another leader (RULES 2).
            log.commit(to: min(message.commit, last))
            respond(Message(kind: .appendEntriesResponse, to: message.from, index: last))
            return
        }
        // A guess at where the logs meet: the highest entry here whose term is at most the probe's
        // skips all that the leader can't have.
        let hint = log.conflict(
            from: min(message.index, log.lastIndex), term: message.logTerm)
        respond(
            Message(
                kind: .appendEntriesResponse, to: message.from, logTerm: hint.term,
                index: message.index, reject: true, rejectHint: hint.index))
    }

    private mutating func handleHeartbeat(_ message: Message) {
        log.commit(to: message.commit)
        messages.append(
            Message(
                kind: .heartbeatResponse, to: message.from, from: id, term: term,
                context: message.context))
    }

    private mutating func handleSnapshot(_ message: Message) {
        let restored = message.snapshotBox.map { restore($0) } ?? false
        respond(
            Message(
                kind: .appendEntriesResponse, to: message.from,
                index: restored ? log.lastIndex : log.committed))
    }

    /// Replaces log and membership by a snapshot; false when it brings nothing new.
    private mutating func restore(_ box: SnapshotBox) -> Bool {
        let snapshot = box.value
        guard snapshot.index > log.committed, role == .follower else { return false }
        let state = snapshot.configuration
        guard
            state.voters.contains(id) || state.learners.contains(id)
                || state.votersOutgoing.contains(id)
        else { return false }
        if log.matches(snapshot.index, snapshot.term) {
            // We hold the entry it ends with, so that all it has for us is that it is committed.
            log.commit(to: snapshot.index)
            return false
        }
        guard let restored = try? Configuration(validating: state) else { return false }
        log.restore(box)
        switchTo(restored)
        return true
    }
}
