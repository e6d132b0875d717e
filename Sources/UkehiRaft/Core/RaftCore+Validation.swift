// Messages that no correct peer sends are refused here, before they change anything: a field that
// breaks one of these rules could otherwise break an invariant far from where it came in.
//
//   every message from a peer    is to us, from a possible id, of a possible term
//   append                       entries follow (index, logTerm) without a gap, terms never fall
//   heartbeat                    commits no more than we hold: the leader knows what we acknowledged
//   acknowledgement              of no more than we ever had
//   snapshot                     exists, with a possible membership

import UkehiBase

extension RaftCore {
    /// Throws unless `message` may be stepped.
    func validate(_ message: Message) throws(RaftError) {
        let kind = message.kind
        if kind.isLocal, !message.from.isLocalTarget { throw .localMessage(kind) }
        if kind.isAboveCores { throw .localMessage(kind) }
        if kind.isResponse, !message.from.isLocalTarget,
            !configuration.isMember(message.from)
        {
            throw .unknownPeer(message.from)
        }
        func require(_ condition: Bool, _ fault: MessageFault) throws(RaftError) {
            if !condition { throw .malformed(fault) }
        }
        try require(message.to == id || message.to == .none, .wrongRecipient)
        try require(message.term <= RaftLimits.maxTerm, .termOutOfRange)
        try require(message.logTerm <= RaftLimits.maxTerm, .termOutOfRange)
        try require(
            message.index <= RaftLimits.maxIndex && message.commit <= RaftLimits.maxIndex
                && message.rejectHint <= RaftLimits.maxIndex, .indexOutOfRange)

        switch kind {
        case .propose:
            try require(message.term == .zero, .termOutOfRange)
            try require(!message.entries.isEmpty, .noEntries)
        case .readIndex:
            try require(message.term == .zero, .termOutOfRange)
        case .storageAppendResponse, .storageApplyResponse, .transferLeader:
            break
        default:
            if kind.isLocal { throw .localMessage(kind) }
            try require(message.from.isValid, .noSender)
            try require(message.term > .zero, .termOutOfRange)
        }

        switch kind {
        case .appendEntries: try validateEntries(message)
        case .heartbeat:
            try require(
                message.term < term || message.commit <= log.lastIndex, .commitPastLog)
        case .appendEntriesResponse:
            try require(
                message.term != term || role != .leader || message.reject
                    || message.index <= log.lastIndex, .acknowledgedPastLog)
        case .requestVoteResponse, .requestPreVoteResponse:
            try require(message.logTerm <= message.term, .termOutOfRange)
        case .requestVote, .requestPreVote:
            try require((message.index == .zero) == (message.logTerm == .zero), .indexOutOfRange)
        case .heartbeatResponse:
            try require(
                message.context.isEmpty || message.term != term || role != .leader
                    || (ReadQueue.decode(message.context) ?? .max) <= lastReadPosition,
                .unknownReadContext)
        case .installSnapshot: try validateSnapshot(message)
        default: break
        }
    }

    private func validateEntries(_ message: Message) throws(RaftError) {
        guard (message.index == .zero) == (message.logTerm == .zero),
            message.logTerm <= message.term
        else { throw .malformed(.entriesNotContiguous) }
        guard message.index <= RaftLimits.maxPeerIndex,
            UInt64(message.entries.count) <= RaftLimits.maxPeerIndex - message.index
        else { throw .malformed(.indexOutOfRange) }
        var index = message.index
        var entryTerm = max(message.logTerm, Term(1))
        for entry in message.entries {
            index = index + 1
            guard entry.index == index, entry.term >= entryTerm else {
                throw .malformed(.entriesNotContiguous)
            }
            entryTerm = entry.term
        }
        guard entryTerm <= message.term else { throw .malformed(.entriesNotContiguous) }
    }

    private func validateSnapshot(_ message: Message) throws(RaftError) {
        guard let snapshot = message.snapshotBox?.value, !snapshot.isEmpty else {
            throw .malformed(.noSnapshot)
        }
        guard snapshot.index < RaftLimits.maxPeerIndex else { throw .malformed(.indexOutOfRange) }
        guard snapshot.term > .zero, snapshot.term <= message.term else {
            throw .malformed(.termOutOfRange)
        }
        guard (try? Configuration(validating: snapshot.configuration)) != nil,
            !snapshot.configuration.voters.isEmpty
        else { throw .malformed(.impossibleMembership) }
    }
}
