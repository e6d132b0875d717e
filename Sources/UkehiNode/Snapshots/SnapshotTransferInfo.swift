// What a node tells of the snapshots that it sends and gets.

public import UkehiBase

/// A snapshot on its way from or to a node, as that node sees it.
public struct SnapshotTransferInfo: Hashable, Sendable {
    public enum Direction: UInt8, Hashable, Sendable, CaseIterable {
        case sends = 0
        case gets = 1
    }
    /// In the order in which a transfer goes through them; what one of both sides does, the other has no
    /// word of.
    public enum Stage: UInt8, Hashable, Sendable, CaseIterable {
        /// Sending: the peer was told of it, and has not asked for it yet.
        case offered = 0
        /// Sending: written to a file.
        case making = 1
        /// Bytes go over.
        case moving = 2
        /// Getting: all of it is there and is read once more.
        case checking = 3
        /// Getting: it is sound, and waits for a leader and for what is being applied.
        case waiting = 4
        /// Getting: it replaces state and log.
        case installing = 5
        /// Sending: the peer has all of it, and installs it.
        case taken = 6
        /// Sending: the peer has installed it, and goes through the log that was written meanwhile.
        case catchingUp = 7
    }
    public var region: RegionID
    public var direction: Direction
    public var stage: Stage
    /// The other side.
    public var peer: PeerID
    /// Its node; nil if that is not known here.
    public var node: NodeID?
    /// Of the file, that the other side has asked for or that came.
    public var doneBytes: UInt64
    /// Zero: not known yet.
    public var totalBytes: UInt64
    /// Since the offer.
    public var milliseconds: UInt64
    /// Since the first byte; zero while none has moved.
    public var bytesPerSecond: UInt64

    public init(
        region: RegionID, direction: Direction, stage: Stage, peer: PeerID, node: NodeID?,
        doneBytes: UInt64, totalBytes: UInt64, milliseconds: UInt64, bytesPerSecond: UInt64
    ) {
        self.region = region
        self.direction = direction
        self.stage = stage
        self.peer = peer
        self.node = node
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
        self.milliseconds = milliseconds
        self.bytesPerSecond = bytesPerSecond
    }
}

/// When a transfer began and how far it got, in a lane's ticks.
struct TransferPace {
    let begunAt: UInt64
    /// The tick of the first byte.
    private var movingAt: UInt64?
    private(set) var doneBytes: UInt64 = 0

    init(begunAt: UInt64) { self.begunAt = begunAt }

    /// It got so far; zero: it can begin to move.
    mutating func reached(_ offset: UInt64, at tick: UInt64) {
        if movingAt == nil || offset == 0 { movingAt = tick }
        doneBytes = offset
    }

    func milliseconds(at tick: UInt64, _ tickMilliseconds: Int) -> UInt64 {
        (tick - begunAt) * UInt64(tickMilliseconds)
    }

    /// Within the tick in which it began a transfer is as fast as if it had taken all of it.
    func bytesPerSecond(at tick: UInt64, _ tickMilliseconds: Int) -> UInt64 {
        guard let movingAt, doneBytes > 0 else { return 0 }
        return doneBytes * 1000 / (max(tick - movingAt, 1) * UInt64(tickMilliseconds))
    }
}

extension SnapshotTransferInfo {
    /// As they are shown.
    static func inOrder(_ transfers: [Self]) -> [Self] {
        transfers.sorted {
            ($0.region, $0.direction.rawValue, $0.peer) < (
                $1.region, $1.direction.rawValue, $1.peer
            )
        }
    }
}
