// Linearizable reads that wait for a quorum to confirm that we still lead (thesis §6.4; RULES 52).
//
//   asked      r1  r2  r3  r4
//   position    1   2   3   4       a heartbeat carries the position of the newest read queued
//   acks       peer 2: 3, peer 3: 1, self: 4       a quorum has 3: r1, r2 and r3 may be answered
//
// One heartbeat round confirms every read queued before it was sent. Positions restart with each
// leader and responses of other terms are dropped, so that (leader, term, position) is unique.

import UkehiBase

/// Reads in the order they were asked, and how far each peer has confirmed them.
struct ReadQueue: Sendable {
    struct Request: Sendable {
        /// Who asked; none or the own id: the layer above.
        var from: PeerID
        var context: Bytes
        /// The commit index when the read was asked.
        var index: LogIndex
    }

    private struct Ack: Sendable {
        var peer: PeerID
        var position: UInt64
    }

    private var waiting: [Request] = []
    private var acks: [Ack] = []
    /// How many were confirmed before `waiting[0]`.
    private var confirmed: UInt64 = 0

    var count: Int { waiting.count }
    /// The position of the newest read.
    var lastPosition: UInt64 { confirmed + UInt64(waiting.count) }

    mutating func add(_ request: Request) { waiting.append(request) }

    /// Notes that `peer` confirmed us as leader after the read at `position` was asked. False when no
    /// such read was ever asked.
    mutating func acknowledge(_ position: UInt64, by peer: PeerID) -> Bool {
        guard position <= lastPosition else { return false }
        for place in acks.indices where acks[place].peer == peer {
            acks[place].position = max(acks[place].position, position)
            return true
        }
        acks.append(Ack(peer: peer, position: position))
        return true
    }

    /// Takes the reads that a quorum of `configuration` has confirmed.
    mutating func takeConfirmed(_ configuration: Configuration) -> [Request] {
        let reached = Quorum.committedIndex(
            incoming: configuration.voters, outgoing: configuration.outgoing,
            acknowledged: { id in
                for ack in acks where ack.peer == id { return LogIndex(ack.position) }
                return nil
            }
        ).rawValue
        guard reached > confirmed else { return [] }
        let count = Int(min(reached, lastPosition) - confirmed)
        guard count > 0 else { return [] }
        if count == waiting.count {
            var taken: [Request] = []
            swap(&taken, &waiting)
            confirmed += UInt64(count)
            return taken
        }
        let taken = Array(waiting[..<count])
        waiting.removeFirst(count)
        confirmed += UInt64(count)
        return taken
    }

    /// The position as a heartbeat carries it; empty when no read waits.
    var heartbeatContext: Bytes {
        waiting.isEmpty ? Bytes() : Self.encode(lastPosition)
    }

    static func encode(_ position: UInt64) -> Bytes {
        withUnsafeBytes(of: position.littleEndian) { Bytes(copying: $0) }
    }

    static func decode(_ context: Bytes) -> UInt64? {
        guard context.count == 8 else { return nil }
        return context.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
    }
}
