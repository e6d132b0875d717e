// A lagging peer's side of a transfer, until its core has taken the snapshot; what follows then is in
// Lane+Replacing.swift.
//
//   receiving ──all of it──▶ checking ──sound──▶ held ──there is a leader──▶ given to the core
//
// What comes is written to a file as it comes; a few chunks of one are in memory at any time, however
// large it is. A transfer belongs to the peer that sends, not to a term: what it holds is committed
// whoever leads, so that a new leader costs nothing of it.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

extension Lane {
    /// A leader offers a snapshot.
    func consider(_ message: Message, _ region: Region) {
        guard message.to == region.peer, let offered = message.snapshot else { return }
        guard region.replacement == nil else { return }
        // Its keys are there by its parent's log only, or others' by its own: that log comes first.
        let replacesLost = needsState(region)
        let awaited = host?.awaitedIndex(of: region.id)
        guard region.keysAreLost || region.hasOwnBase && !region.awaitsKeys,
            // Unless it cannot be replayed any more.
            awaited.map({ replacesLost && cannotReplay(region, upTo: $0) }) ?? true
        else {
            askFlushedChildren()
            return wait(for: message, region)
        }
        // Nothing new: the core alone says so, in a way that helps the leader on.
        if !replacesLost,
            offered.index <= region.raft.committed
                || region.raft.term(at: offered.index) == offered.term
        {
            return step(message, region)
        }
        guard message.term >= region.raft.term, applier.givesSnapshots(of: region.id) else {
            return
        }
        if let position = snapshots.incoming(region.id) {
            let known = snapshots.incoming[position]
            guard case .receiving = known.stage, known.peer != message.from,
                isSilent(known.heardAt)
            else { return }
            forget(position)
        }
        // An offer that was dropped would come again only when its leader has heard nothing for long.
        // On a full volume it would not fit, or end the node that could not be started there again.
        guard !isDiskFull, ticks >= snapshots.restsUntil, snapshotWork.incoming.take() else {
            return wait(for: message, region)
        }
        let files = snapshotWork.files
        snapshots.incoming.append(
            IncomingSnapshot(
                region: region.id, peer: message.from, replacesLost: replacesLost,
                staging: StagingFile(files.fileSystem, path: files.incoming(region.id)),
                heardAt: ticks, askedAt: ticks, writtenAt: ticks, pace: TransferPace(begunAt: ticks)
            ))
        ask(snapshots.incoming.count - 1)
    }

    /// Keeps an offer that cannot be taken now, of each region the newest.
    private func wait(for message: Message, _ region: Region) {
        snapshots.waiting.removeAll { $0.region == region.id }
        // Without what an offer does not need: it would keep all that came with it in memory.
        var message = message
        message.snapshot?.data = Bytes()
        message.context = Bytes()
        snapshots.waiting.append((region.id, message))
    }

    /// Asks for what comes next.
    private func ask(_ position: Int, _ verdict: SnapshotVerdict = .goesOn, room: Int? = nil) {
        snapshots.incoming[position].askedAt = ticks
        let snapshot = snapshots.incoming[position]
        guard let region = regions[snapshot.region] else { return }
        var request = SnapshotRequest(
            snapshot: snapshot.id, offset: snapshot.next,
            room: UInt32(room ?? options.snapshotChunkBytes), verdict: verdict)
        if snapshot.replacesLost, snapshot.id == 0, verdict == .goesOn {
            request.verdict = .needsState
            request.offset = region.raft.lastIndex.rawValue
        }
        send(
            Message(
                kind: .snapshotRequest, to: snapshot.peer, from: region.peer,
                term: region.raft.term, context: request.encoded()), region)
    }

    /// A part of a snapshot, or the word that there is none.
    func take(chunk message: Message, _ region: Region) {
        guard message.to == region.peer, let position = snapshots.incoming(region.id),
            snapshots.incoming[position].peer == message.from,
            case .receiving = snapshots.incoming[position].stage
        else { return }
        if message.reject {
            // Of this one, not of one before it.
            guard SnapshotRequest(message.context)?.snapshot == snapshots.incoming[position].id
            else { return }
            return forget(position)
        }
        guard let chunk = SnapshotChunk(message.context) else {
            // Not made yet; it will be.
            if SnapshotRequest(message.context)?.verdict == .goesOn {
                snapshots.incoming[position].heardAt = ticks
            }
            return
        }
        if snapshots.incoming[position].id == 0, chunk.offset == 0 {
            snapshots.incoming[position].id = chunk.snapshot
            snapshots.incoming[position].totalBytes = chunk.totalBytes
        }
        guard chunk.snapshot == snapshots.incoming[position].id,
            chunk.totalBytes == snapshots.incoming[position].totalBytes,
            chunk.offset <= snapshots.incoming[position].next
        else { return }
        snapshots.incoming[position].heardAt = ticks
        // Asked for again, and slow: what was asked for behind it is on its way.
        guard chunk.offset == snapshots.incoming[position].next else { return }
        snapshots.incoming[position].repeats = 0
        snapshots.incoming[position].next += UInt64(chunk.bytes.count)
        snapshots.incoming[position].pace.reached(snapshots.incoming[position].next, at: ticks)
        snapshots.incoming[position].unwritten += 1
        write(chunk, position)
        if snapshots.incoming[position].next == chunk.totalBytes {
            snapshots.incoming[position].stage = .checking
            ask(position, .hasIt)
            check(position)
        } else if snapshots.incoming[position].unwritten < Limits.maxUnwrittenChunks {
            ask(position)
        }
    }

    private func write(_ chunk: SnapshotChunk, _ position: Int) {
        let staging = snapshots.incoming[position].staging
        let region = snapshots.incoming[position].region
        let lane = self
        snapshotWork.takingWorker.run {
            var isWritten = true
            do throws(FileError) {
                try staging.write(chunk.bytes, at: chunk.offset)
            } catch {
                isWritten = false
                lane.logger.error(
                    "a snapshot was not kept",
                    metadata: ["region": "\(region)", "reason": "\(error)"])
            }
            lane.post(.snapshotWritten(region, chunk.snapshot, isWritten))
        }
    }

    /// A chunk is in the file: there is room for another.
    func written(_ id: UInt64, _ region: RegionID, _ isWritten: Bool) {
        guard let position = snapshots.incoming(region), snapshots.incoming[position].id == id
        else { return }
        snapshots.incoming[position].unwritten -= 1
        snapshots.incoming[position].writtenAt = ticks
        guard isWritten else {
            rest()
            ask(position, .givesUp)
            return forget(position)
        }
        if case .receiving = snapshots.incoming[position].stage,
            snapshots.incoming[position].unwritten == Limits.maxUnwrittenChunks - 1
        {
            ask(position)
        }
    }

    private func check(_ position: Int) {
        let (id, region) = (snapshots.incoming[position].id, snapshots.incoming[position].region)
        let staging = snapshots.incoming[position].staging
        let lane = self
        snapshotWork.takingWorker.run {
            do throws(SnapshotError) {
                lane.post(.snapshotChecked(region, id, try staging.check()))
            } catch {
                lane.logger.error(
                    "a snapshot from a peer is refused",
                    metadata: ["region": "\(region)", "reason": "\(error)"])
                lane.post(.snapshotChecked(region, id, nil))
            }
        }
    }

    /// All of it was read back; it is sound, or is refused.
    func checked(_ id: UInt64, _ region: RegionID, _ header: SnapshotHeader?) {
        guard let position = snapshots.incoming(region), snapshots.incoming[position].id == id,
            case .checking = snapshots.incoming[position].stage
        else { return }
        if header == nil { rest() }
        guard let header, let region = regions[region], header.snapshot == id,
            header.region == region.id, header.cluster == cluster,
            header.isSystem == region.descriptor.isSystem,
            header.content == applier.content(of: region.id)
        else { return forget(position) }
        snapshots.incoming[position].stage = .held(header)
        giveToCore(position, region)
    }

    /// Lets the core take the snapshot, as if from the leader there is.
    private func giveToCore(_ position: Int, _ region: Region) {
        guard case .held(let header) = snapshots.incoming[position].stage else { return }
        // Of keys that this region no longer has: it would replace another's. Less than it has is what is
        // left after a division that it has not applied.
        guard header.epoch.version >= region.descriptor.epoch.version,
            header.epoch.version >= region.birth.naming.epoch.version,
            region.descriptor.range.contains(header.range), header.index > region.raft.committed
        else { return forget(position) }
        guard region.leader != .none, region.leader != region.peer else { return }
        snapshots.incoming[position].stage = .given
        #if BugBank
            let configuration =
                PlantedBug.snapshotKeepsOldMembers.isPlanted
                ? region.descriptor.configuration : header.descriptor.configuration
        #else
            let configuration = header.descriptor.configuration
        #endif
        step(
            Message(
                kind: .installSnapshot, to: region.peer, from: region.leader,
                term: region.raft.term,
                snapshot: Snapshot(
                    index: header.index, term: header.term,
                    configuration: configuration)),
            region)
        if !region.raft.isRestoring { forget(position) }
    }

    /// Ends a transfer that will not be installed.
    func forget(_ position: Int) {
        let staging = snapshots.incoming.remove(at: position).staging
        snapshotWork.incoming.give()
        snapshotWork.takingWorker.run { staging.discard() }
    }

    /// Once a tick while there are any: asks again after a silence, and gives up after a long one.
    func tendIncoming() {
        // Each is judged again as if it came now; those that still find no room wait on.
        if !snapshots.waiting.isEmpty {
            let offers = snapshots.waiting
            snapshots.waiting = []
            for (id, offer) in offers {
                if let region = regions[id] { consider(offer, region) }
            }
        }
        for position in snapshots.incoming.indices.reversed() {
            let snapshot = snapshots.incoming[position]
            guard let region = regions[snapshot.region] else {
                forget(position)
                continue
            }
            switch snapshot.stage {
            case .receiving where isSilent(snapshot.heardAt): forget(position)
            case .receiving:
                if snapshot.unwritten >= Limits.maxUnwrittenChunks {
                    guard ticks - snapshot.writtenAt <= Limits.writePatience * patience else {
                        continue
                    }
                    // Its own disk is behind, or checks another one; who sends it is to know that it goes on.
                    snapshots.incoming[position].heardAt = ticks
                    if ticks - snapshot.askedAt >= Limits.ticksPerSnapshotRequest {
                        ask(position, room: 0)
                    }
                } else if ticks - snapshot.askedAt
                    >= Limits.ticksPerSnapshotRequest << snapshot.repeats
                {
                    // Less and less often: on a slow link what comes twice holds up what comes next.
                    snapshots.incoming[position].repeats = min(snapshot.repeats + 1, 2)
                    ask(position)
                }
            case .checking, .held, .given:
                // Who sent it keeps the log that goes on behind it, for as long as it hears of that.
                if ticks - snapshot.askedAt >= Limits.ticksPerSnapshotRequest {
                    ask(position, .hasIt)
                }
                if case .held = snapshot.stage { giveToCore(position, region) }
                if case .given = snapshot.stage { goOnReplacing(region) }
            }
        }
    }
}
