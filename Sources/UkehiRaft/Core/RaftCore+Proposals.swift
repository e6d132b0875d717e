// What a leader appends: commands, membership changes, the entry that opens its term.

import UkehiBase

extension RaftCore {
    /// Appends one entry and sends it on; returns its index. Only on a leader.
    mutating func propose(kind: EntryKind, data: Bytes) throws(RaftError) -> LogIndex {
        try checkMayPropose()
        var kind = kind
        var data = data
        var changeIndex = pendingChangeIndex
        if kind != .normal {
            if try admitsChange(kind: kind, data: data, pending: pendingChangeIndex) {
                changeIndex = log.lastIndex + 1
            } else {
                kind = .normal
                data = Bytes()
            }
        }
        try countUncommitted(Self.countedBytes(kind, data))
        if changeIndex != pendingChangeIndex { office.pendingChangeIndex = changeIndex }
        appendAsLeader(kind: kind, data: data)
        sendAppended()
        return log.lastIndex
    }

    /// Appends the entries of a proposal, all or none.
    mutating func propose(entries proposed: [Entry]) throws(RaftError) {
        try checkMayPropose()
        guard UInt64(proposed.count) < RaftLimits.maxIndex - log.lastIndex else {
            throw .overloaded
        }
        var entries = proposed
        var counted: UInt64 = 0
        var changeIndex = pendingChangeIndex
        var index = log.lastIndex
        for place in entries.indices {
            index = index + 1
            let kind = entries[place].kind
            if kind != .normal {
                let data = entries[place].data
                if try admitsChange(kind: kind, data: data, pending: changeIndex) {
                    changeIndex = index
                } else {
                    entries[place] = Entry(term: term, index: index)
                }
            }
            entries[place].term = term
            entries[place].index = index
            counted += Self.countedBytes(entries[place].kind, entries[place].data)
        }
        try countUncommitted(counted)
        if changeIndex != pendingChangeIndex { office.pendingChangeIndex = changeIndex }
        log.append(entries)
        acknowledgeOwnAppend()
        sendAppended()
    }

    /// Appends commands as one entry each, all or none; returns the first index.
    mutating func propose(batch: [Bytes]) throws(RaftError) -> LogIndex {
        try checkMayPropose()
        let first = log.lastIndex + 1
        var counted: UInt64 = 0
        var entries: [Entry] = []
        entries.reserveCapacity(batch.count)
        for data in batch {
            entries.append(Entry(term: term, index: first + UInt64(entries.count), data: data))
            counted += UInt64(data.count)
        }
        try countUncommitted(counted)
        log.append(entries)
        acknowledgeOwnAppend()
        sendAppended()
        return first
    }

    /// Appends an entry that was admitted.
    mutating func appendAsLeader(kind: EntryKind, data: Bytes) {
        log.append(Entry(term: term, index: log.lastIndex + 1, kind: kind, data: data))
        acknowledgeOwnAppend()
    }

    /// Sends new entries at once, or with all others of this pass.
    private mutating func sendAppended() {
        if settings.flags.contains(.lazyCommitBroadcast) {
            hasPendingAppends = true
        } else {
            broadcastAppend()
        }
    }

    /// A leader counts itself like a follower, once its own write is durable (RULES 3).
    private mutating func acknowledgeOwnAppend() {
        respond(Message(kind: .appendEntriesResponse, to: id, index: log.lastIndex))
    }

    private func checkMayPropose() throws(RaftError) {
        guard role == .leader else {
            throw .proposalDropped(.notLeader(hint: leader == .none ? nil : leader))
        }
        guard configuration.isMember(id) else { throw .proposalDropped(.removed) }
        guard transferee == .none else { throw .proposalDropped(.transferring(to: transferee)) }
        guard log.lastIndex < RaftLimits.maxIndex else { throw .overloaded }
    }

    // MARK: Bounds (RULES 8)

    /// What an entry weighs against the bound: commands only, so that neither the opening entry of a
    /// term nor a membership change, which may be what repairs the group, is ever refused for it.
    static func countedBytes(_ kind: EntryKind, _ data: Bytes) -> UInt64 {
        kind == .normal ? UInt64(data.count) : 0
    }

    /// Adds to the bytes not yet applied. One proposal of any size fits when nothing else waits.
    private mutating func countUncommitted(_ bytes: UInt64) throws(RaftError) {
        if uncommittedBytes > 0, bytes > 0,
            bytes > settings.maxUncommittedBytes
                || uncommittedBytes > settings.maxUncommittedBytes - bytes
        {
            throw .proposalDropped(.tooManyUncommittedBytes)
        }
        uncommittedBytes += bytes
    }

    // MARK: Membership changes (RULES 9)

    /// Whether a change may be appended; false when an empty entry is to take its place. The check is
    /// made against the applied configuration, which may not be the one the change will find.
    private func admitsChange(
        kind: EntryKind, data: Bytes, pending: LogIndex
    ) throws(RaftError) -> Bool {
        let change: ConfigurationChange
        do {
            change = try ConfigurationChange.decode(
                Entry(term: term, index: .zero, kind: kind, data: data))
        } catch {
            throw .malformed(.undecodableChange)
        }
        let refusal: ProposalRefusal?
        if pending > log.applied {
            refusal = .changePending(at: pending)
        } else if configuration.isJoint, !change.steps.isEmpty {
            refusal = .changeWhileJoint
        } else if !configuration.isJoint, change.steps.isEmpty {
            refusal = .nothingToLeave
        } else {
            refusal = nil
        }
        guard let refusal, !settings.flags.contains(.skipChangeValidation) else { return true }
        if settings.flags.contains(.refuseInvalidChanges) { throw .proposalDropped(refusal) }
        return false
    }
}
