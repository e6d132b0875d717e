// What two nodes say while a snapshot goes from one to the other: the bytes in the contexts of
// `snapshotRequest` and `snapshotChunk` (Message.swift).
//
//   leader                                   lagging peer
//     installSnapshot (an offer: index, term) ──▶ has room for one?
//     ◀── snapshotRequest 0, from 0               then it asks
//     makes the file; asked meanwhile:
//     chunk: a request of snapshot 0 ──▶          waits on
//     chunk, chunk ... ──▶                        ◀── snapshotRequest: from where it stands, how much
//     ◀── snapshotRequest: has it all             checks it, installs it
//
//                                              a peer that has lost entries
//     ◀── snapshotRequest: needs the state        asks its leader for an offer; the rest as above
//
//   request | snapshot u64, 0: whichever there is | offset u64 | room u32 | verdict u32 |
//   chunk   | snapshot u64 | total bytes u64 | offset u64 | checksum u32 of what follows | 0 u32 | bytes |
//
// The receiver sets the pace and asks again after a silence, so that a lost message, a broken
// connection or a busy sender are all the same to it: it goes on where it stands.

package import UkehiBase

/// What a receiver tells the one who sends.
package enum SnapshotVerdict: UInt32, Hashable, Sendable {
    /// Wants bytes from `offset` on.
    case goesOn = 0
    /// Has all of them.
    case hasIt = 1
    /// Wants no more of this snapshot.
    case givesUp = 2
    /// Has lost entries that nobody has any more, and needs the state behind them. Without room: asks for
    /// an offer. With room: has entries up to the index in `offset`, takes no more, and wants a snapshot
    /// from past that.
    case needsState = 3
}

/// A request for a part of a snapshot.
package struct SnapshotRequest: Hashable, Sendable {
    /// Which one; zero: that of the offer, whose id is not known yet.
    package var snapshot: UInt64
    package var offset: UInt64
    /// Most bytes that the next chunk may have.
    package var room: UInt32
    package var verdict: SnapshotVerdict

    package static let byteCount = 24

    package init(
        snapshot: UInt64, offset: UInt64 = 0, room: UInt32 = 0, verdict: SnapshotVerdict = .goesOn
    ) {
        self.snapshot = snapshot
        self.offset = offset
        self.room = room
        self.verdict = verdict
    }

    /// The request in a message; nil if it is none.
    package init?(_ bytes: Bytes) {
        guard bytes.count == Self.byteCount else { return nil }
        var reader = ByteReader(bytes)
        guard let snapshot = try? reader.read(UInt64.self),
            let offset = try? reader.read(UInt64.self), let room = try? reader.read(UInt32.self),
            let verdict = (try? reader.read(UInt32.self)).flatMap(SnapshotVerdict.init(rawValue:))
        else { return nil }
        self.init(snapshot: snapshot, offset: offset, room: room, verdict: verdict)
    }

    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: Self.byteCount)
        writer.append(snapshot)
        writer.append(offset)
        writer.append(room)
        writer.append(verdict.rawValue)
        return writer.take()
    }
}

/// A part of a snapshot.
package struct SnapshotChunk: Hashable, Sendable {
    package var snapshot: UInt64
    package var totalBytes: UInt64
    package var offset: UInt64
    package var bytes: Bytes

    package static let headerBytes = 32

    package init(snapshot: UInt64, totalBytes: UInt64, offset: UInt64, bytes: Bytes) {
        self.snapshot = snapshot
        self.totalBytes = totalBytes
        self.offset = offset
        self.bytes = bytes
    }

    /// The chunk in a message, a slice of it; nil if it is none, or its bytes were damaged on the way.
    package init?(_ message: Bytes) {
        guard message.count > Self.headerBytes else { return nil }
        var reader = ByteReader(message)
        guard let snapshot = try? reader.read(UInt64.self), snapshot != 0,
            let total = try? reader.read(UInt64.self),
            let offset = try? reader.read(UInt64.self), offset <= total,
            let checksum = try? reader.read(UInt32.self), (try? reader.read(UInt32.self)) == 0
        else { return nil }
        let bytes = message[Self.headerBytes..<message.count]
        guard UInt64(bytes.count) <= total - offset,
            bytes.withUnsafeBytes({ CRC32C.checksum($0) }) == checksum
        else { return nil }
        self.init(snapshot: snapshot, totalBytes: total, offset: offset, bytes: bytes)
    }

    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: Self.headerBytes + bytes.count)
        writer.append(snapshot)
        writer.append(totalBytes)
        writer.append(offset)
        writer.append(bytes.withUnsafeBytes { CRC32C.checksum($0) })
        writer.append(UInt32(0))
        writer.append(bytes)
        return writer.take()
    }
}
