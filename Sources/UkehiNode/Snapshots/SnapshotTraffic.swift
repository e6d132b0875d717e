// The snapshots that a lane sends and gets, and what bounds them.

import Synchronization
import UkehiBase
package import UkehiEnvironment
import UkehiRaft
import UkehiState

/// How many snapshots a node makes and takes at once, over all its lanes (RULES 49). Any thread.
package final class SnapshotSlots: @unchecked Sendable {
    // Safety: `free` is behind `lock`.
    private let lock = Lock()
    private var free: Int

    package init(_ count: Int) { free = count }

    /// Whether there was one; it is to be given back.
    func take() -> Bool {
        lock.withLock {
            guard free > 0 else { return false }
            free -= 1
            return true
        }
    }
    func give() { lock.withLock { free += 1 } }
}

/// What a node may send of snapshots, shared by its lanes. Any thread.
///
/// By the clock: lanes' ticks do not go together.
package final class SnapshotBudget: @unchecked Sendable {
    // Safety: all is behind `lock`.
    /// How long others leave what there is to a lane that got nothing before.
    private static let courtesyNanoseconds: UInt64 = 500_000_000

    private let lock = Lock()
    private var left = 0
    private var filledAt: MonotonicTime?
    private var waiting: (lane: Int, since: MonotonicTime)?

    package init() {}

    /// Adds what the rate allows since the last call, but no more than `most`.
    func refill(bytesPerSecond: Int, most: Int, at now: MonotonicTime) {
        lock.withLock {
            let since = filledAt.map { now > $0 ? now - $0 : 0 } ?? .max
            filledAt = max(filledAt ?? now, now)
            let most = max(most, 1)
            let allowed = Double(bytesPerSecond) * Double(since) / 1e9
            left = allowed < Double(most) ? min(left + Int(allowed), most) : min(left + most, most)
        }
    }

    /// Takes a chunk's bytes, if there are any left and no other lane has waited longer; may be overdrawn by
    /// one chunk.
    func take(_ bytes: Int, lane: Int, at now: MonotonicTime) -> Bool {
        lock.withLock {
            guard left > 0 else {
                if waiting == nil { waiting = (lane, now) }
                return false
            }
            if let first = waiting, first.lane != lane,
                now < first.since + Self.courtesyNanoseconds
            {
                return false
            }
            waiting = nil
            left -= bytes
            return true
        }
    }
}

/// What a lane's snapshots are made with.
package struct SnapshotWork: Sendable {
    package var files: SnapshotFiles
    /// Makes those for others.
    package var makingWorker: any Worker
    /// Compresses what that one reads of the state; nil: it does so itself.
    package var compressingWorker: (any Worker)?
    /// Writes, checks and installs those from others.
    package var takingWorker: any Worker
    package var outgoing: SnapshotSlots
    package var incoming: SnapshotSlots
    package var budget = SnapshotBudget()
    package var random: any RandomSource
    /// Nil where the state survives the process by itself.
    package var keeper: SnapshotKeeper?
}

/// Whether somebody still waits for a file that is to be made (RULES 50). Any thread.
final class SnapshotWish: Sendable {
    private let isOver = Atomic(false)
    var isGivenUp: Bool { isOver.load(ordering: .relaxed) }
    func giveUp() { isOver.store(true, ordering: .relaxed) }
}

/// A snapshot for a peer of one of the lane's regions.
struct OutgoingSnapshot {
    enum Stage {
        /// The peer was told that there is one.
        case offered
        /// The id that the file will have.
        case making(UInt64)
        /// The file, its id and its length.
        case made(any File, UInt64, bytes: UInt64)
        /// The peer has it, and has not yet acknowledged what is in it.
        case taken
        /// It has what was in it, and goes on by the log: that is kept for it until it lags no more than
        /// any peer may, or else what was written meanwhile would cost it another snapshot, and so on.
        case catchingUp
    }
    let region: RegionID
    let peer: PeerID
    var stage = Stage.offered
    /// Of the file that is made now.
    var wish = SnapshotWish()
    /// The peer's log will go on behind this: the region's log is not compacted past it (RULES 13).
    var floor: LogIndex
    var path = ""
    /// The tick at which the peer was last heard of.
    var heardAt: UInt64
    /// What it asked for and was not given yet.
    var wanted: SnapshotRequest?
    var isReading = false
    /// The tick at which it was given something last.
    var servedAt: UInt64 = 0
    /// Of the file, once it is made.
    var totalBytes: UInt64 = 0
    var pace: TransferPace

    var holdsSlot: Bool {
        switch stage {
        case .making, .made: true
        case .offered, .taken, .catchingUp: false
        }
    }
}

/// A snapshot that one of the lane's regions gets from a peer.
struct IncomingSnapshot {
    enum Stage {
        case receiving
        /// Everything is here, and being checked.
        case checking
        /// It is whole; waits for a leader to be installed under.
        case held(SnapshotHeader)
        /// Its core has taken it: the region's replacement goes on by itself.
        case given
    }
    let region: RegionID
    let peer: PeerID
    /// It stands for entries that are lost: meanwhile the region takes no others, so that it ends past all
    /// that was acknowledged.
    let replacesLost: Bool
    var stage = Stage.receiving
    /// Zero until the first chunk tells.
    var id: UInt64 = 0
    var totalBytes: UInt64 = 0
    /// Where the next chunk begins.
    var next: UInt64 = 0
    /// Chunks handed to the worker and not written yet.
    var unwritten = 0
    let staging: StagingFile
    /// The tick at which something came of it, and at which something was asked for last.
    var heardAt: UInt64
    var askedAt: UInt64
    /// The tick at which a chunk was written last.
    var writtenAt: UInt64
    /// How often the next chunk was asked for again, two at most.
    var repeats: UInt64 = 0
    var pace: TransferPace
}

/// The file that an incoming snapshot is gathered in.
final class StagingFile: @unchecked Sendable {
    // Safety: used on the worker that takes snapshots, one piece of work at a time.
    let path: String
    private let fileSystem: any FileSystem
    private var file: (any File)?

    init(_ fileSystem: any FileSystem, path: String) {
        self.fileSystem = fileSystem
        self.path = path
    }

    func write(_ bytes: Bytes, at offset: UInt64) throws(FileError) {
        if file == nil {
            if fileSystem.exists(path) { try fileSystem.remove(path) }
            file = try fileSystem.open(path, .createNew)
        }
        // Not through Bytes' own call: it knows no typed errors.
        let result = bytes.withUnsafeBytes { raw in
            Result { () throws(FileError) in try file?.write(raw, at: offset) }
        }
        try result.get()
    }

    /// Makes it durable and checks all of it (RULES 48).
    func check() throws(SnapshotError) -> SnapshotHeader {
        guard let file else { throw SnapshotError(.truncated, "The snapshot is empty.") }
        do throws(FileError) {
            try file.sync()
        } catch {
            throw SnapshotError(error, doing: "The snapshot was not kept")
        }
        let reader = try SnapshotFileReader(file)
        while try reader.next() != nil {}
        file.close()
        self.file = nil
        return reader.header
    }

    func discard() {
        file?.close()
        file = nil
        try? fileSystem.remove(path)
    }
}

/// A lane's share of the node's snapshots.
struct SnapshotTraffic {
    /// In the order in which they were offered.
    var outgoing: [OutgoingSnapshot] = []
    /// In the order in which they were begun.
    var incoming: [IncomingSnapshot] = []
    /// Until this tick none is begun: a disk that has just failed one is not asked again at once.
    var restsUntil: UInt64 = 0

    /// Offers that came while there was no room for another transfer, oldest first, the last of each region: who
    /// made one waits long before it makes another.
    var waiting: [(region: RegionID, offer: Message)] = []

    var isIdle: Bool { outgoing.isEmpty && incoming.isEmpty && waiting.isEmpty }

    func outgoing(_ region: RegionID, _ peer: PeerID) -> Int? {
        outgoing.firstIndex { $0.region == region && $0.peer == peer }
    }
    func incoming(_ region: RegionID) -> Int? { incoming.firstIndex { $0.region == region } }

    /// How far the region's log may go, for those who will need what is behind it.
    func floor(of region: RegionID) -> LogIndex? {
        var floor: LogIndex?
        for snapshot in outgoing where snapshot.region == region {
            floor = min(floor ?? snapshot.floor, snapshot.floor)
        }
        return floor
    }
}

extension SnapshotHeader {
    /// The header of a snapshot whose state and descriptor were seen at one moment (RULES 47).
    ///
    /// - Parameters:
    ///   - descriptor: Nil: still the region's first one.
    ///   - origin: That one.
    init(
        _ id: UInt64, of cluster: ClusterID, _ descriptor: Bytes?, origin: RegionDescriptor,
        content: SnapshotContent, _ state: RegionState
    ) throws(DecodeError) {
        var region = origin
        if let descriptor { region = try RegionDescriptor.decode(descriptor) }
        self.init(
            snapshot: id, cluster: cluster, region: region.region, isSystem: region.isSystem,
            content: content, range: region.range,
            members: region.peers.map {
                SnapshotMember(peer: $0.peer, node: $0.node, roles: $0.roles)
            }, leavesJoint: region.leavesJoint, state: state)
    }

    /// The region as the header has it.
    var descriptor: RegionDescriptor {
        RegionDescriptor(
            region: region, isSystem: isSystem, range: range, epoch: epoch,
            peers: members.map {
                PeerDescriptor(peer: $0.peer, node: $0.node, roles: $0.roles)
            }, leavesJoint: leavesJoint)
    }
}
