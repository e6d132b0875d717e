// A region's state and log are replaced by a snapshot (DESIGN.md section 6, RULES 48).
//
//   the core has taken it, and everything handed on before is applied
//     1  the file's name becomes the mark, durable     ┐ on the worker that takes snapshots
//     2  the store's content is replaced, in one step  ┘
//     3  the log is reset: with the lane's next batch
//     4  what waited for it goes out; the file is removed
//
// Invariant: from 1 on every start leads to the same end; before 1 nothing was changed. Between 2 and
// 3 the store is past the log's end, which the mark explains; nothing of the region was said by then
// but votes, which know the log as it was.
//
// What the core hands to the log meanwhile waits behind 3, since the log has to be reset first. Votes do
// not wait: without them no leader could be found while a large snapshot is installed.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

/// A region's replacement that is under way.
struct Replacement {
    enum Stage {
        /// Entries handed on before are being applied.
        case waiting
        case installing
        /// The store has it; the log's reset is on its way to disk.
        case resetting
    }
    var stage = Stage.waiting
    let index: LogIndex
    let term: Term
    let mark: SnapshotMark
    /// What the core wants to be durable, the first with the snapshot, in order.
    var held: [Message]
}

extension Lane {
    /// The core has taken a snapshot: state and log are to follow.
    func beginReplacement(by snapshot: Snapshot, _ message: Message, _ region: Region) {
        invariant(region.replacement == nil, "\(region.id) is replaced twice at once")
        region.replacement = Replacement(
            index: snapshot.index, term: snapshot.term,
            mark: SnapshotMark(
                region: region.id, peer: region.peer, index: snapshot.index, term: snapshot.term),
            held: [message])
        logger.info(
            "a snapshot replaces the region's state",
            metadata: ["region": "\(region.id)", "index": "\(snapshot.index)"])
        if region.keysAreLost { dropHeld(region) }
        goOnReplacing(region)
    }

    /// Whether a message for the log has to wait until the log is reset.
    func waitsForReset(_ message: Message, _ region: Region) -> Bool {
        guard let replacement = region.replacement, replacement.stage != .resetting else {
            return false
        }
        let isVote =
            message.entries.isEmpty
            && message.responses.allSatisfy {
                [.requestVoteResponse, .requestPreVoteResponse, .requestVote].contains($0.kind)
            }
        guard isVote else {
            region.replacement?.held.append(message)
            return true
        }
        if message.term > .zero {
            // What waits must not bring an older vote back when its turn comes.
            for position in replacement.held.indices {
                region.replacement?.held[position].term = .zero
            }
        }
        return false
    }

    /// Steps 1 and 2, once everything that was handed on is applied.
    func goOnReplacing(_ region: Region) {
        #if BugBank
            let waits = !PlantedBug.replacesWhileApplying.isPlanted
        #else
            let waits = true
        #endif
        guard let replacement = region.replacement, replacement.stage == .waiting,
            (region.applied == region.handedToApply && region.heldApplies.isEmpty) || !waits
        else { return }
        // It is looked at again with the next tick.
        if rare.takes(.replacedLate) { return }
        // Their keys are in this region's log only: after a crash it would begin behind them.
        guard region.unflushedChildren.isEmpty else { return askFlushedChildren() }
        region.replacement?.stage = .installing
        let mark = replacement.mark
        let files = snapshotWork.files
        let applier = applier
        let lane = self
        #if BugBank
            if PlantedBug.logResetFirst.isPlanted {
                return installWhenReset(mark, region)
            }
        #endif
        // Two pieces of work: between them the process may end, too.
        snapshotWork.takingWorker.run {
            do throws(FileError) {
                try files.mark(files.incoming(mark.region), as: mark)
            } catch {
                return lane.failInstallation(of: mark, error)
            }
            lane.snapshotWork.takingWorker.run {
                do {
                    lane.post(.snapshotInstalled(try files.install(mark, with: applier)))
                } catch {
                    lane.failInstallation(of: mark, error)
                }
            }
        }
    }

    private func failInstallation(of mark: SnapshotMark, _ error: any Error) {
        if let error = error as? StateError { return fail(NodeError(error)) }
        fail(
            NodeError(
                code: .ioFailed,
                message: "A snapshot of region \(mark.region) was not installed: \(error)"))
    }

    #if BugBank
        private func installWhenReset(_ mark: SnapshotMark, _ region: Region) {
            let files = snapshotWork.files
            let applier = applier
            let lane = self
            let descriptor = region.descriptor
            post(.snapshotInstalled(descriptor))
            snapshotWork.takingWorker.run {
                try? files.mark(files.incoming(mark.region), as: mark)
                lane.snapshotWork.takingWorker.run { _ = try? files.install(mark, with: applier) }
            }
        }
    #endif

    /// Step 3: the log follows the store.
    func installed(_ descriptor: RegionDescriptor) {
        let id = descriptor.region
        guard let region = regions[id], var replacement = region.replacement else { return }
        let held = replacement.held
        replacement.held = []
        replacement.stage = .resetting
        region.replacement = replacement
        region.applied = replacement.index
        region.handedToApply = replacement.index
        forgetProposals(upTo: replacement.index, region)
        // The core has had its members since it took the snapshot.
        region.descriptor = descriptor
        region.handedDescriptor = descriptor
        region.handedChanges.removeAll()
        if descriptor.epoch.version > region.birth.origin.epoch.version {
            region.raft.setBeginning(max(region.birth.logBegins, LogIndex(1)))
        }
        findContacts(of: region)
        if region.awaitsKeys {
            keysCame(to: region)
            host?.keysRestored(descriptor)
        } else {
            host?.membersChanged(descriptor)
        }
        guard let first = held.first else { return }
        persist(votesOf: first, region)
        let state = HardState(
            term: region.persistedTerm, vote: region.persistedVote,
            commit: max(region.raft.committed, replacement.index))
        batch.reset(
            region: id, index: replacement.index, term: replacement.term, hardState: state)
        if !first.entries.isEmpty {
            batch.append(region: id, hardState: nil, entries: first.entries)
        }
        wait(
            InFlightBatch.Item(
                region: region, entries: first.entries, responses: first.responses,
                reset: (replacement.index, replacement.term)))
        for message in held.dropFirst() { handToLog(message, region) }
        markDirty(region)
    }

    /// Step 4: the log is reset on disk.
    func finishReplacement(_ region: Region, _ reset: (index: LogIndex, term: Term)) {
        region.log.reset(index: reset.index, term: reset.term)
        observer?.replaced(region.descriptor, index: reset.index, term: reset.term)
        forgetHoles(region)
        if let position = snapshots.incoming(region.id),
            case .given = snapshots.incoming[position].stage
        {
            snapshots.incoming.remove(at: position)
            snapshotWork.incoming.give()
        }
        if let mark = region.replacement?.mark { finish(mark) }
        region.replacement = nil
        host?.settled(region.id, upTo: reset.index)
        logger.info(
            "a snapshot has replaced the region's state",
            metadata: ["region": "\(region.id)", "index": "\(reset.index)"])
    }

    private func finish(_ mark: SnapshotMark) {
        let work = snapshotWork
        let lane = self
        let life = work.keeper?.life(of: mark.region) ?? 0
        work.takingWorker.run {
            guard let keeper = work.keeper else { return work.files.remove(mark) }
            do throws(FileError) {
                // The mark goes last: until then it is what the state is made of at a start.
                try keeper.keep(installed: mark, life)
            } catch {
                lane.fail(
                    NodeError(
                        code: .ioFailed,
                        message: "A snapshot of region \(mark.region) was not kept: \(error)."))
            }
        }
    }

    /// The region goes from this node: so do its transfers. Of a snapshot that was not begun to be
    /// installed nothing stays.
    func endSnapshots(of region: Region) {
        invariant(
            region.replacement == nil || region.replacement?.stage == .waiting,
            "\(region.id) goes while a snapshot of it is installed")
        region.replacement = nil
        if let position = snapshots.incoming(region.id) { forget(position) }
        for position in snapshots.outgoing.indices.reversed()
        where snapshots.outgoing[position].region == region.id {
            giveUp(position)
        }
    }

    /// What became of proposals that a snapshot stands for cannot be told any more (RULES 75).
    private func forgetProposals(upTo index: LogIndex, _ region: Region) {
        while let proposal = region.proposals.first, proposal.index <= index {
            region.proposals.removeFirst()
            for waiter in proposal.waiters where !waiter.isAnswered {
                reply(.failed(.outcomeUnknown), waiter.sink, waiter.tag)
            }
        }
    }
}

extension SnapshotFiles {
    /// Step 2, at its time or again.
    ///
    /// - Returns: The region as the snapshot has it.
    /// - Throws: ``SnapshotError``, ``FileError`` or ``StateError``.
    @discardableResult
    func install(_ mark: SnapshotMark, with applier: Applier) throws -> RegionDescriptor {
        let file = try fileSystem.open(path(mark), .read)
        defer { file.close() }
        let reader = try SnapshotFileReader(file)
        guard reader.header.region == mark.region, reader.header.index == mark.index,
            reader.header.term == mark.term
        else {
            throw SnapshotError(
                .damaged, "The file \(mark.name) is another snapshot than its name says.")
        }
        let descriptor = reader.header.descriptor
        try applier.install(reader, region: mark.region, descriptor: descriptor.encoded())
        // Less than before, where the region was divided meanwhile.
        try applier.setRange(descriptor.range, of: mark.region)
        return descriptor
    }
}
