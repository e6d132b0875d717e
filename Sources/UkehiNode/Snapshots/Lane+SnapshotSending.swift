// A leader's side of a transfer: offered by the core, made when the peer asks, given out in chunks.
//
// Nothing is made before the peer has said that it takes it (RULES 49). The file stays until the peer
// has it, gives up, or is silent for too long; whether this node still leads meanwhile does not matter,
// since what a snapshot holds is committed. Of the log that the peer will need behind it nothing is
// compacted meanwhile, nor while it goes through that log (``SnapshotTraffic/floor(of:)``): a region that
// is written to writes more while a snapshot is made and installed than is kept for a peer that lags.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

/// A snapshot's file that is ready to be sent.
package struct MadeSnapshot: Sendable {
    var path: String
    var file: any File
    var bytes: UInt64
    var index: LogIndex
}

extension Lane {
    /// What a peer is told that needs entries which the log has no more: the state as applied now. Its
    /// snapshot is made later, and may be of a later index.
    func offer(_ region: Region) -> Snapshot? {
        guard ticks >= snapshots.restsUntil, region.applied > .zero, !region.awaitsKeys,
            applier.givesSnapshots(of: region.id),
            let term = try? region.log.term(at: region.applied)
        else { return nil }
        return Snapshot(
            index: region.applied, term: term, configuration: region.descriptor.configuration)
    }

    /// The core wants a peer to have a snapshot.
    func offer(_ message: Message, _ region: Region) {
        guard let index = message.snapshot?.index else { return }
        if let position = snapshots.outgoing(region.id, message.to) {
            snapshots.outgoing[position].heardAt = ticks
            // It had one, and needs one again.
            switch snapshots.outgoing[position].stage {
            case .taken: snapshots.outgoing[position].stage = .offered
            case .catchingUp:
                // The log that it had come to was let go after all.
                snapshots.outgoing[position].stage = .offered
                snapshots.outgoing[position].floor = index
            case .offered, .making, .made: break
            }
        } else {
            snapshots.outgoing.append(
                OutgoingSnapshot(
                    region: region.id, peer: message.to, floor: index, heardAt: ticks,
                    pace: TransferPace(begunAt: ticks)))
        }
        send(message, region)
    }

    /// A peer wants a part of a snapshot, has all of it, or wants none.
    func serve(_ message: Message, _ region: Region) {
        guard message.to == region.peer, let request = SnapshotRequest(message.context) else {
            return
        }
        if request.verdict == .needsState { return replaceLost(request, of: message.from, region) }
        guard let position = snapshots.outgoing(region.id, message.from) else {
            return refuse(request, from: message.from, region)
        }
        snapshots.outgoing[position].heardAt = ticks
        switch (request.verdict, snapshots.outgoing[position].stage) {
        case (.hasIt, .made(_, let id, _)) where request.snapshot == id: taken(position, region)
        case (.hasIt, _): break
        case (.givesUp, _): giveUp(position)
        case (.goesOn, .offered):
            // Who is not told that its turn will come gives up in the moment in which it does (20004497 of `nodes`).
            guard snapshotWork.outgoing.take() else { return tellMaking(message.from, region) }
            make(region, position)
        case (.goesOn, .making): tellMaking(message.from, region)
        case (.goesOn, .made(_, let id, let total)):
            guard request.snapshot == 0 || request.snapshot == id else {
                return refuse(request, from: message.from, region)
            }
            guard request.offset <= total else { return }
            snapshots.outgoing[position].pace.reached(request.offset, at: ticks)
            // It says only that it is there.
            guard request.room > 0 else { return }
            snapshots.outgoing[position].wanted = request
            giveWanted(position)
            // The rate holds it back; that is not silence.
            let isHeldBack = snapshots.outgoing[position].wanted != nil
            if isHeldBack, !snapshots.outgoing[position].isReading {
                tellMaking(message.from, region)
            }
        case (.goesOn, .taken): giveUp(position)
        case (.goesOn, .catchingUp): refuse(request, from: message.from, region)
        case (.needsState, _): break
        }
    }

    func refuse(_ request: SnapshotRequest, from peer: PeerID, _ region: Region) {
        guard request.verdict == .goesOn || request.verdict == .needsState else { return }
        send(
            Message(
                kind: .snapshotChunk, to: peer, from: region.peer, term: region.raft.term,
                reject: true, context: SnapshotRequest(snapshot: request.snapshot).encoded()),
            region)
    }

    // MARK: Making it

    /// Begins a file for the peer at `position`, whose slot is taken.
    func make(_ region: Region, _ position: Int) {
        let id = snapshotWork.random.next() | 1
        let peer = snapshots.outgoing[position].peer
        snapshots.outgoing[position].stage = .making(id)
        let wish = SnapshotWish()
        snapshots.outgoing[position].wish = wish
        let origin = region.birth.origin
        let region = region.id
        let path = snapshotWork.files.outgoing(region, peer, id)
        let cluster = cluster
        let applier = applier
        let lane = self
        let files = snapshotWork.files
        let options = SnapshotOptions(compressingWorker: snapshotWork.compressingWorker)
        logger.info(
            "a snapshot is made for a peer that lags",
            metadata: ["region": "\(region)", "peer": "\(peer)"])
        snapshotWork.makingWorker.run {
            // Others wait behind it.
            guard !wish.isGivenUp else { return lane.post(.snapshotMade(region, peer, id, nil)) }
            var writer: SnapshotFileWriter?
            do {
                var index = LogIndex.zero
                try applier.writeSnapshot(of: region) { state, descriptor in
                    index = state.applied
                    let header = try SnapshotHeader(
                        id, of: cluster, descriptor, origin: origin,
                        content: applier.content(of: region), state)
                    let made = try SnapshotFileWriter(
                        files.fileSystem, path: path, header, state: state,
                        options: options)
                    writer = made
                    return made.encoder
                }
                _ = try writer?.finish()
                let file = try files.fileSystem.open(path, .read)
                let bytes = try file.size()
                lane.post(
                    .snapshotMade(
                        region, peer, id,
                        MadeSnapshot(path: path, file: file, bytes: bytes, index: index)))
            } catch {
                writer?.abandon()
                files.remove(path)
                lane.logger.error(
                    "a snapshot was not made",
                    metadata: ["region": "\(region)", "reason": "\(error)"])
                lane.post(.snapshotMade(region, peer, id, nil))
            }
        }
    }

    /// A peer that waits for a large one would take a long silence for a failure.
    func tellMaking(_ peer: PeerID, _ region: Region) {
        send(
            Message(
                kind: .snapshotChunk, to: peer, from: region.peer, term: region.raft.term,
                context: SnapshotRequest(snapshot: 0).encoded()), region)
    }

    /// The file is there, or could not be made.
    func made(_ region: RegionID, for peer: PeerID, _ id: UInt64, _ snapshot: MadeSnapshot?) {
        // Not one that was begun for an earlier offer: the log may have been let go behind it since.
        guard let position = snapshots.outgoing(region, peer),
            case .making(id) = snapshots.outgoing[position].stage
        else {
            // Nobody waits for it any more; its slot was given back with the wish.
            if let snapshot { discard(snapshot.file, snapshot.path) }
            return
        }
        guard let snapshot else {
            rest()
            return giveUp(position)
        }
        snapshots.outgoing[position].path = snapshot.path
        snapshots.outgoing[position].floor = snapshot.index
        snapshots.outgoing[position].totalBytes = snapshot.bytes
        snapshots.outgoing[position].pace.reached(0, at: ticks)
        snapshots.outgoing[position].stage = .made(snapshot.file, id, bytes: snapshot.bytes)
        snapshots.outgoing[position].wanted = SnapshotRequest(
            snapshot: id, room: UInt32(options.snapshotChunkBytes))
        giveWanted(position)
    }

    private func discard(_ file: any File, _ path: String) {
        let files = snapshotWork.files
        // Behind a read of it that may be under way.
        readWorker.run {
            file.close()
            files.remove(path)
        }
    }

    // MARK: Giving it out

    /// Reads the chunk that was asked for last, if one may be sent now.
    func giveWanted(_ position: Int) {
        let snapshot = snapshots.outgoing[position]
        guard let request = snapshot.wanted, !snapshot.isReading,
            case .made(let file, let id, let total) = snapshot.stage, request.offset < total
        else { return }
        let count = min(
            UInt64(request.room), UInt64(options.snapshotChunkBytes), total - request.offset)
        guard count > 0, snapshotWork.budget.take(Int(count), lane: index, at: clock.now())
        else { return }
        snapshots.outgoing[position].wanted = nil
        snapshots.outgoing[position].isReading = true
        snapshots.outgoing[position].servedAt = ticks
        let lane = self
        let (region, peer) = (snapshot.region, snapshot.peer)
        readWorker.run {
            var chunk: SnapshotChunk?
            do throws(FileError) {
                let bytes = try Bytes(count: Int(count)) { (room) throws(FileError) in
                    try file.read(into: room, at: request.offset)
                }
                if bytes.count == Int(count) {
                    chunk = SnapshotChunk(
                        snapshot: id, totalBytes: total, offset: request.offset, bytes: bytes)
                }
            } catch {
                lane.logger.error(
                    "a snapshot cannot be read back",
                    metadata: ["region": "\(region)", "reason": "\(error)"])
            }
            lane.post(.snapshotRead(region, peer, id, chunk?.encoded()))
        }
    }

    /// A chunk is read; it goes out.
    func read(_ chunk: Bytes?, of id: UInt64, _ region: RegionID, for peer: PeerID) {
        guard let position = snapshots.outgoing(region, peer), let region = regions[region],
            case .made(_, id, _) = snapshots.outgoing[position].stage
        else { return }
        snapshots.outgoing[position].isReading = false
        guard let chunk else { return giveUp(position) }
        send(
            Message(
                kind: .snapshotChunk, to: peer, from: region.peer, term: region.raft.term,
                context: chunk), region)
        giveWanted(position)
    }

    // MARK: Its end

    private func taken(_ position: Int, _ region: Region) {
        drop(fileOf: position)
        snapshots.outgoing[position].stage = .taken
        region.raft.reportSnapshot(snapshots.outgoing[position].peer, ok: true)
        markDirty(region)
    }

    /// The core goes back to probing, and offers again where that is still needed.
    func giveUp(_ position: Int) {
        drop(fileOf: position)
        let snapshot = snapshots.outgoing.remove(at: position)
        if let region = regions[snapshot.region] { probe(snapshot.peer, region) }
    }

    /// The core waits for a snapshot only as long as somebody sees to one: with none on its way, or none
    /// needed, it would say nothing to the peer ever again.
    private func probe(_ peer: PeerID, _ region: Region) {
        region.raft.reportSnapshot(peer, ok: false)
        markDirty(region)
    }

    private func drop(fileOf position: Int) {
        let snapshot = snapshots.outgoing[position]
        snapshot.wish.giveUp()
        if snapshot.holdsSlot { snapshotWork.outgoing.give() }
        if case .made(let file, _, _) = snapshot.stage { discard(file, snapshot.path) }
    }

    /// Once a tick while there are any: gives what the rate allows, forgets those not heard of.
    func tendOutgoing() {
        let perTick = options.snapshotBytesPerSecond / max(1, 1000 / options.tickMilliseconds)
        snapshotWork.budget.refill(
            bytesPerSecond: options.snapshotBytesPerSecond, most: perTick, at: clock.now())
        for position in snapshots.outgoing.indices.reversed() {
            let snapshot = snapshots.outgoing[position]
            guard let region = regions[snapshot.region] else {
                giveUp(position)
                continue
            }
            let match = region.raft.match(of: snapshot.peer) ?? .zero
            switch snapshot.stage {
            case .taken where !region.isLeader, .catchingUp where !region.isLeader:
                snapshots.outgoing.remove(at: position)
                continue
            case .offered where match >= snapshot.floor, .taken where match >= snapshot.floor:
                // Offered: it may have been installing what it had got, and been offered it again; the core
                // knows only of the later one.
                probe(snapshot.peer, region)
                snapshots.outgoing[position].stage = .catchingUp
                snapshots.outgoing[position].floor = match
                snapshots.outgoing[position].heardAt = ticks
                continue
            case .catchingUp:
                if region.isNear(match, options) || region.isBehindAll(match, options)
                    || isSilent(snapshot.heardAt)
                {
                    giveUp(position)
                } else if match > snapshot.floor {
                    snapshots.outgoing[position].floor = match
                    snapshots.outgoing[position].heardAt = ticks
                }
                continue
            default: break
            }
            // It came to nothing there.
            if isSilent(snapshot.heardAt) { giveUp(position) }
        }
        // What the rate allows goes to whoever has waited longest.
        let order = snapshots.outgoing.indices.filter { snapshots.outgoing[$0].wanted != nil }
            .sorted { snapshots.outgoing[$0].servedAt < snapshots.outgoing[$1].servedAt }
        for position in order { giveWanted(position) }
    }

    func isSilent(_ heardAt: UInt64) -> Bool { ticks - heardAt > patience }

    /// Ticks.
    var patience: UInt64 {
        UInt64(4 * options.electionTimeoutMilliseconds / options.tickMilliseconds)
    }

    /// A snapshot came to nothing here: the next one not at once.
    func rest() { snapshots.restsUntil = ticks + patience }
}
