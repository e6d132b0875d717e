// What a node hands out, and when the storage has to hear of it (etcd's Ready and its asynchronous
// storage writes; RULES 1, 4).

import UkehiBase

extension RawNode {
    private var isAsync: Bool { core.settings.flags.contains(.asyncStorageWrites) }

    /// In synchronous mode entries are applied and persisted from one Ready, in that order of safety:
    /// what is committed is durable elsewhere. Asynchronously they are applied once durable here.
    private var appliesUnstable: Bool { !isAsync }

    /// Whether ``takeReady(into:)`` would give anything.
    public var hasReady: Bool {
        !core.messages.isEmpty || !core.messagesAfterAppend.isEmpty || core.log.hasNewEntries
            || core.log.hasCommittedEntries(allowUnstable: appliesUnstable)
            || hasNewHardState || hasNewSoftState
            || core.log.hasNewSnapshot || !core.readStates.isEmpty
    }

    /// Whether the hard state is worth a write of its own.
    private var hasNewHardState: Bool {
        core.hasNewTermOrVote
            || (core.log.committed != previousCommit
                && !core.settings.flags.contains(.lazyCommitPersistence))
    }

    private var hasNewSoftState: Bool {
        core.leader != previousLeader || core.role != core.previousRole
    }

    /// Takes the work that has come up, replacing what `ready` holds and reusing its memory.
    ///
    /// Synchronous mode: every call is followed by ``advance()`` once the work is done.
    public mutating func takeReady(into ready: inout Ready) {
        core.sendPendingAppends()
        ready.messages.removeAll(keepingCapacity: true)
        ready.readStates.removeAll(keepingCapacity: true)
        swap(&ready.messages, &core.messages)
        if !core.readStates.isEmpty { swap(&ready.readStates, &core.readStates) }

        ready.entries = core.log.takeNewEntries()
        let box = core.log.takeNewSnapshot()
        ready.snapshot = box?.value
        ready.committedEntries = core.log.takeCommittedEntries(
            allowUnstable: appliesUnstable, maxBytes: core.settings.maxApplyingBytes)

        ready.softState = hasNewSoftState ? core.softState : nil
        previousLeader = core.leader
        core.previousRole = core.role

        ready.mustSync = !ready.entries.isEmpty || core.hasNewTermOrVote
        let writesAnyway =
            !ready.entries.isEmpty || box != nil || !core.messagesAfterAppend.isEmpty
        if hasNewHardState || (writesAnyway && core.log.committed != previousCommit) {
            ready.hardState = core.hardState
            previousCommit = core.log.committed
            core.hasNewTermOrVote = false
        } else {
            ready.hardState = nil
        }

        if isAsync {
            queueStorageMessages(&ready, box)
        } else {
            queueSteps(&ready, box)
        }
    }

    /// Asynchronous: storage work becomes messages, with what depends on it as their responses.
    private mutating func queueStorageMessages(_ ready: inout Ready, _ box: SnapshotBox?) {
        let hard = ready.hardState
        if !ready.entries.isEmpty || hard != nil || box != nil || !core.messagesAfterAppend.isEmpty
        {
            var append = Message(
                kind: .storageAppend, to: .localAppend, from: core.id, entries: ready.entries)
            if let hard {
                append.term = hard.term
                append.vote = hard.vote
                append.commit = hard.commit
            }
            append.snapshotBox = box
            // Our own answers come first: handling them looks at terms of entries that the storage's
            // answer lets go of.
            swap(&append.responses, &core.messagesAfterAppend)
            if let response = storageAppendResponse(box) { append.responses.append(response) }
            ready.messages.append(append)
        }
        if !ready.committedEntries.isEmpty {
            ready.messages.append(
                Message(
                    kind: .storageApply, to: .localApply, from: core.id,
                    entries: ready.committedEntries,
                    responses: [storageApplyResponse(ready.committedEntries)]))
        }
    }

    /// Synchronous: messages wait for the caller's own order, and ``advance()`` gives the responses.
    private mutating func queueSteps(_ ready: inout Ready, _ box: SnapshotBox?) {
        invariant(stepsOnAdvance.isEmpty, "a Ready was taken before the last one was advanced")
        for message in core.messagesAfterAppend {
            if message.to == core.id {
                stepsOnAdvance.append(message)
            } else {
                ready.messages.append(message)
            }
        }
        core.messagesAfterAppend.removeAll(keepingCapacity: true)
        if let response = storageAppendResponse(box) { stepsOnAdvance.append(response) }
        if !ready.committedEntries.isEmpty {
            stepsOnAdvance.append(storageApplyResponse(ready.committedEntries))
        }
    }

    /// What the storage says when everything unstable now is durable; nil when nothing is.
    ///
    /// It carries the log's last (index, term) and our term. If the term has changed when it comes back,
    /// a later write may still replace those entries in the storage, even by equal ones that were
    /// overwritten in between (ABA): it is ignored then. For that reason it goes with every write while
    /// anything is unstable, not only with entries: the write of the new term brings the news again.
    private func storageAppendResponse(_ box: SnapshotBox?) -> Message? {
        guard core.log.hasUnstableEntries || box != nil else { return nil }
        var response = Message(
            kind: .storageAppendResponse, to: core.id, from: .localAppend, term: core.term)
        if core.log.hasUnstableEntries {
            response.index = core.log.lastIndex
            response.logTerm = core.log.lastTerm
        }
        response.snapshotBox = box
        return response
    }

    private func storageApplyResponse(_ entries: [Entry]) -> Message {
        Message(kind: .storageApplyResponse, to: core.id, from: .localApply, entries: entries)
    }

    /// Synchronous mode: the work of the last Ready is done.
    public mutating func advance() {
        invariant(!isAsync, "advance() in asynchronous mode; deliver responses instead")
        var steps: [Message] = []
        swap(&steps, &stepsOnAdvance)
        for message in steps { try? core.step(message) }
        steps.removeAll(keepingCapacity: true)
        if stepsOnAdvance.isEmpty { swap(&steps, &stepsOnAdvance) }
    }
}
