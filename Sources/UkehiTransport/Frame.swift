// The unit of the wire: one length-prefixed, checksummed frame.
//
//   frame | length u32 | crc32c u32 | type u8 | flags u8 = 0 | 0 u16 | payload, `length` bytes |
//
// Integers are little-endian. The checksum covers all other fields and the payload. Unknown types
// and flags close the connection: what may be said is agreed on in the hello (Handshake.swift).
//
// Changing anything here changes the wire version (docs/FORMATS.md).

package import UkehiBase

/// What a frame's payload is.
package enum FrameType: UInt8, Sendable, CaseIterable {
    /// Dialer: who I am and what this connection is for. Again whenever that has changed.
    case hello = 1
    /// Acceptor: who I am; the connection goes on.
    case welcome = 2
    /// Either: why I am about to close the connection, as text.
    case farewell = 3
    /// Dialer, peer connections: Raft messages (MessageCodec.swift).
    case messages = 4
    /// Dialer, control connections: bytes of the bootstrap conversation.
    case bootstrap = 5
    /// Client: requests (RequestCodec.swift).
    case requests = 6
    /// Node to client: replies (ReplyCodec.swift).
    case replies = 7
}

/// One received frame; `payload` is one chunk of memory that everything decoded from it shares.
package struct Frame: Sendable {
    package var type: FrameType
    package var payload: Bytes
}

/// Why a connection ends. `kind` is for counters and for limiting log lines.
package struct WireError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        case oversize, checksum, malformed, timeout, refused, resources, network
        /// The other side said why it closes.
        case told
        /// The other side's reason: we are not who it may talk to.
        case refusedByPeer
        /// We refuse it, or it refuses us, as one that was a node once and is none any more.
        case dismissed, dismissedByPeer
        /// Closed on purpose, by the other side or by our own stop: nothing to complain of.
        case ended
    }
    package var kind: Kind
    /// For logs and for the other side; never contains payload bytes.
    package var reason: String

    package init(_ kind: Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }
    /// Bytes that do not say what they should.
    package init(_ error: DecodeError, in what: String) {
        self.init(.malformed, "malformed \(what): \(error)")
    }
    package var description: String { reason }
}

/// The fields before a frame's payload.
package struct FrameHeader: Sendable {
    package static let bytes = 12

    var length: Int
    var checksum: UInt32
    var type: FrameType
    /// The checksum of the covered header fields; the payload's goes on from it.
    var seed: UInt32

    /// Reads and judges a header; `maxPayload` is what this connection may send now.
    init(_ raw: UnsafeRawBufferPointer, maxPayload: Int) throws(WireError) {
        invariant(raw.count >= FrameHeader.bytes, "a frame header of \(raw.count) bytes")
        let length = UInt32(littleEndian: raw.loadUnaligned(as: UInt32.self))
        guard length <= maxPayload else {
            throw WireError(
                .oversize, "a frame of \(length) bytes is over the limit of \(maxPayload)")
        }
        guard let type = FrameType(rawValue: raw[8]) else {
            throw WireError(.malformed, "unknown frame type \(raw[8])")
        }
        guard raw[9] == 0, raw[10] == 0, raw[11] == 0 else {
            throw WireError(.malformed, "unknown frame flags")
        }
        self.length = Int(length)
        self.type = type
        checksum = UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        seed = FrameHeader.seed(raw)
    }

    func matches(_ payload: UnsafeRawBufferPointer) -> Bool {
        CRC32C.checksum(payload, seed: seed) == checksum
    }

    var mismatch: WireError {
        WireError(.checksum, "a \(type) frame of \(length) bytes fails its checksum")
    }

    private static func seed(_ raw: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: raw[0..<4]))
        crc.update(UnsafeRawBufferPointer(rebasing: raw[8..<12]))
        return crc.value
    }

    /// Fills the header of `frame`, whose payload is already in place behind it.
    package static func seal(_ frame: UnsafeMutableRawBufferPointer, type: FrameType) {
        frame.storeBytes(of: UInt32(frame.count - bytes).littleEndian, as: UInt32.self)
        frame.storeBytes(
            of: UInt32(type.rawValue).littleEndian, toByteOffset: 8, as: UInt32.self)
        let raw = UnsafeRawBufferPointer(frame)
        let crc = CRC32C.checksum(
            UnsafeRawBufferPointer(rebasing: raw[bytes...]), seed: seed(raw))
        frame.storeBytes(of: crc.littleEndian, toByteOffset: 4, as: UInt32.self)
    }
}

/// Cuts a byte stream into frames.
///
/// A frame that arrived whole costs one copy into a chunk of its own size. One that arrives in
/// pieces is collected in a chunk that at most doubles with the bytes received: a claimed length
/// never makes memory be allocated.
struct FrameAssembler: ~Copyable {
    private var head: [UInt8] = []
    private var header: FrameHeader?
    private var body = ByteWriter(chunkCapacity: 0)
    private var bodyCapacity = 0

    init() { head.reserveCapacity(FrameHeader.bytes) }

    /// Whether a frame has begun and not ended.
    var isInsideFrame: Bool { header != nil || !head.isEmpty }
    /// Memory held for it.
    var heldBytes: Int { bodyCapacity }

    /// Takes the next frame off the front of `input`; nil when `input` is used up before its end.
    mutating func next(
        _ input: inout UnsafeRawBufferPointer, maxPayload: Int
    ) throws(WireError) -> Frame? {
        if header == nil {
            guard try readHeader(&input, maxPayload: maxPayload) else { return nil }
        }
        guard let header else { return nil }
        if body.count == 0, input.count >= header.length {
            let payload = UnsafeRawBufferPointer(rebasing: input[..<header.length])
            input = UnsafeRawBufferPointer(rebasing: input[header.length...])
            guard header.matches(payload) else { throw header.mismatch }
            self.header = nil
            return Frame(type: header.type, payload: Bytes(copying: payload))
        }
        let step = min(input.count, header.length - body.count)
        reserve(body.count + step, of: header.length)
        body.append(UnsafeRawBufferPointer(rebasing: input[..<step]))
        input = UnsafeRawBufferPointer(rebasing: input[step...])
        guard body.count == header.length else { return nil }
        guard body.withUnsafeBytes({ header.matches($0) }) else { throw header.mismatch }
        let payload = body.take()
        body = ByteWriter(chunkCapacity: 0)
        bodyCapacity = 0
        self.header = nil
        return Frame(type: header.type, payload: payload)
    }

    /// Whether the header is complete now.
    private mutating func readHeader(
        _ input: inout UnsafeRawBufferPointer, maxPayload: Int
    ) throws(WireError) -> Bool {
        if head.isEmpty, input.count >= FrameHeader.bytes {
            header = try FrameHeader(input, maxPayload: maxPayload)
            input = UnsafeRawBufferPointer(rebasing: input[FrameHeader.bytes...])
            return true
        }
        let step = min(input.count, FrameHeader.bytes - head.count)
        head.append(contentsOf: input[..<step])
        input = UnsafeRawBufferPointer(rebasing: input[step...])
        guard head.count == FrameHeader.bytes else { return false }
        let raw = Bytes(head)
        head.removeAll(keepingCapacity: true)
        header = try raw.withUnsafeBytes { (raw) throws(WireError) in
            try FrameHeader(raw, maxPayload: maxPayload)
        }
        return true
    }

    private mutating func reserve(_ wanted: Int, of length: Int) {
        guard wanted > bodyCapacity else { return }
        let capacity = min(length, max(wanted * 2, 16 << 10))
        var larger = ByteWriter(chunkCapacity: capacity)
        body.withUnsafeBytes { larger.append($0) }
        body = larger
        bodyCapacity = capacity
    }
}
