// What an embedder's state machine writes, as a snapshot's pairs: pieces of bounded size, each under a
// number that grows, so that their order and number are checked as keys are.

import UkehiBase

/// Cuts what a machine writes into pieces.
final class PieceWriter: SnapshotWriter {
    static let pieceBytes = 256 << 10
    private let encoder: SnapshotEncoder
    private var piece = ByteWriter(chunkCapacity: pieceBytes)
    private var number: UInt64 = 0
    private var failure: SnapshotError?

    private init(_ encoder: SnapshotEncoder) { self.encoder = encoder }

    /// Writes all of a machine's state.
    static func write(_ machine: any StateMachine, to encoder: SnapshotEncoder) throws {
        let writer = PieceWriter(encoder)
        machine.writeSnapshot(to: writer)
        writer.endPiece()
        if let failure = writer.failure { throw failure }
    }

    func write(_ bytes: Bytes) {
        var rest = bytes
        while !rest.isEmpty, failure == nil {
            let taken = min(rest.count, Self.pieceBytes - piece.count)
            piece.append(rest[0..<taken])
            rest = rest[taken..<rest.count]
            if piece.count == Self.pieceBytes { endPiece() }
        }
    }

    private func endPiece() {
        guard piece.count > 0, failure == nil else { return }
        number += 1
        piece.withUnsafeBytes { value in
            withUnsafeBytes(of: number.bigEndian) { key in
                do throws(SnapshotError) {
                    try encoder.append(
                        StoredEntry(key: key, value: value, version: 0, expiresAt: 0))
                } catch {
                    failure = error
                }
            }
        }
        piece.discard()
    }
}

/// Gives a snapshot's pieces to a machine, a frame at a time.
final class PieceReader: SnapshotReader {
    private let snapshot: SnapshotFileReader
    private var pieces: [Bytes] = []
    private var position = 0
    private var state: RegionState?
    private var number: UInt64 = 0

    init(_ snapshot: SnapshotFileReader) { self.snapshot = snapshot }

    func read() throws -> Bytes? {
        while position == pieces.count {
            guard let frame = try snapshot.next() else { return nil }
            if let found = frame.state { state = found }
            pieces.removeAll(keepingCapacity: true)
            position = 0
            try frame.forEachPair { entry throws(SnapshotError) in
                number += 1
                let isNext = withUnsafeBytes(of: number.bigEndian) {
                    compareBytes($0, entry.key) == 0
                }
                guard isNext else {
                    throw .damaged(
                        "piece \(number) of the state is not where it should be",
                        frame: frame.info.number, offset: frame.info.offset)
                }
                pieces.append(Bytes(copying: entry.value))
            }
        }
        defer { position += 1 }
        return pieces[position]
    }

    /// The region's state, once nothing is left: a machine that stops before the end has not understood
    /// what it was given.
    func finish() throws -> RegionState {
        guard try read() == nil, let state else {
            throw SnapshotError(
                .refused,
                "The state machine did not read its snapshot to the end. It is of another "
                    + "version than the one that wrote it.")
        }
        return state
    }
}
