// What both sides of a connection say before anything else.
//
//   hello, welcome | magic u64 "UKEHIWIR" | lowest version u16 | highest version u16 | purpose u8
//                  | flags u8: 1 cluster, 2 node, 4 generation | 0 u16 | incarnation u64
//                  | cluster u64 u64, if flagged | node u64, if flagged | generation u64, if flagged
//                  | name: u16 + UTF-8 | address: u16 + UTF-8 |
//
// The dialer says hello with the versions it speaks; the acceptor answers welcome with the one
// version it chose in both fields, or farewell with a reason. Both judge the other (RULES 71). The
// dialer says hello again, and is answered again, for as long as one side has no node id: that is
// how a connection made before the cluster existed learns whose it is. A client sends no identity:
// its incarnation is 0, its address empty and its name a label for logs.

package import UkehiBase
package import UkehiNode

/// What a connection is for.
package enum ConnectionPurpose: UInt8, Sendable {
    /// Heartbeats, votes, responses, small appends, bootstrap: small frames (RULES 70).
    case control = 1
    /// appendEntries that would keep control frames waiting.
    case bulk = 2
    /// Requests and replies of one client.
    case client = 3
    /// Parts of snapshots: nothing else waits behind them.
    case snapshot = 4
}

/// Inclusive range of wire versions.
package struct WireVersions: Hashable, Sendable {
    package var lowest: UInt16
    package var highest: UInt16
    package static let spoken = WireVersions(lowest: 1, highest: 1)

    /// The best common version.
    func common(with other: WireVersions) -> UInt16? {
        let best = min(highest, other.highest)
        return best >= max(lowest, other.lowest) ? best : nil
    }
}

/// The payload of a hello or welcome frame.
package struct Greeting: Hashable, Sendable {
    package var versions: WireVersions
    package var purpose: ConnectionPurpose
    package var hello: Hello

    static let magic: UInt64 = 0x5249_5749_4845_4b55  // "UKEHIWIR" in memory order.
    static let maxNameBytes = 256
    static let maxAddressBytes = 512

    package init(
        versions: WireVersions = .spoken, purpose: ConnectionPurpose, hello: Hello
    ) {
        self.versions = versions
        self.purpose = purpose
        self.hello = hello
    }

    package func encode() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        writer.append(Greeting.magic)
        writer.append(versions.lowest)
        writer.append(versions.highest)
        writer.append(purpose.rawValue)
        writer.append(
            UInt8(hello.cluster == nil ? 0 : 1) | UInt8(hello.node == nil ? 0 : 2)
                | UInt8(hello.generation == 0 ? 0 : 4))
        writer.append(UInt16(0))
        writer.append(hello.incarnation.rawValue)
        if let cluster = hello.cluster {
            writer.append(cluster.high)
            writer.append(cluster.low)
        }
        if let node = hello.node { writer.append(node.rawValue) }
        if hello.generation > 0 { writer.append(hello.generation) }
        Greeting.append(hello.name, atMost: Greeting.maxNameBytes, to: &writer)
        Greeting.append(hello.address, atMost: Greeting.maxAddressBytes, to: &writer)
        return writer.take()
    }

    package init(decoding payload: Bytes) throws(WireError) {
        do throws(DecodeError) {
            var reader = ByteReader(payload)
            guard try reader.read(UInt64.self) == Greeting.magic else {
                throw reader.failure("not a hello of this protocol")
            }
            let lowest = try reader.read(UInt16.self)
            versions = WireVersions(lowest: lowest, highest: try reader.read(UInt16.self))
            guard versions.common(with: .spoken) != nil else {
                throw reader.failure(
                    "wire versions \(lowest) to \(versions.highest) are offered, "
                        + "\(WireVersions.spoken.lowest) to \(WireVersions.spoken.highest) are "
                        + "spoken here; use nodes and clients of one release")
            }
            guard let purpose = ConnectionPurpose(rawValue: try reader.read(UInt8.self)) else {
                throw reader.failure("unknown purpose of the connection")
            }
            self.purpose = purpose
            let flags = try reader.read(UInt8.self)
            guard flags <= 7, try reader.read(UInt16.self) == 0 else {
                throw reader.failure("unknown flags")
            }
            let incarnation = Incarnation(try reader.read(UInt64.self))
            var cluster: ClusterID?
            if flags & 1 != 0 {
                let high = try reader.read(UInt64.self)
                cluster = ClusterID(high: high, low: try reader.read(UInt64.self))
            }
            let node = flags & 2 != 0 ? NodeID(try reader.read(UInt64.self)) : nil
            let generation = flags & 4 != 0 ? try reader.read(UInt64.self) : 0
            let name = try Greeting.text(&reader, atMost: Greeting.maxNameBytes)
            hello = Hello(
                name: name, address: try Greeting.text(&reader, atMost: Greeting.maxAddressBytes),
                incarnation: incarnation, cluster: cluster, node: node, generation: generation)
            try reader.expectEnd()
        } catch {
            throw WireError(error, in: "hello")
        }
    }

    private static func append(_ text: String, atMost limit: Int, to writer: inout ByteWriter) {
        let bytes = Bytes(text)
        invariant(bytes.count <= limit, "a name or address of \(bytes.count) bytes")
        writer.append(UInt16(bytes.count))
        writer.append(bytes)
    }

    private static func text(_ reader: inout ByteReader, atMost limit: Int) throws(DecodeError)
        -> String
    {
        let length = Int(try reader.read(UInt16.self))
        guard length <= limit else {
            throw reader.failure("a text of \(length) bytes is over the limit of \(limit)")
        }
        let bytes = try reader.readBytes(length).array
        guard let text = String(validating: bytes, as: UTF8.self), isPrintable(text) else {
            throw reader.failure("a text that is not printable UTF-8")
        }
        return text
    }
}

/// No control characters: texts of others go into our logs.
func isPrintable(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7f...0x9f).contains($0.value) }
}

/// The text of a farewell.
enum Farewell {
    static let maxBytes = 1 << 10

    /// First byte: 1 if the handshake was refused for who the other side is, 2 if that is for good, else 0.
    static func encode(_ reason: WireError) -> Bytes {
        var writer = ByteWriter(chunkCapacity: maxBytes)
        switch reason.kind {
        case .refused: writer.append(UInt8(1))
        case .dismissed: writer.append(UInt8(2))
        default: writer.append(UInt8(0))
        }
        let text = Bytes(reason.reason)
        // A cut inside a character is repaired by the reader.
        writer.append(text[0..<min(text.count, maxBytes - 1)])
        return writer.take()
    }

    /// What the other side said, as this side's reason to close.
    static func decode(_ payload: Bytes) -> (kind: WireError.Kind, text: String) {
        guard !payload.isEmpty else { return (.told, "(no reason)") }
        let bytes = payload[1..<min(payload.count, maxBytes)].array
        let text = String(decoding: bytes, as: UTF8.self)
        let kind: WireError.Kind =
            payload[0] == 1 ? .refusedByPeer : payload[0] == 2 ? .dismissedByPeer : .told
        return (kind, isPrintable(text) ? text : "(a reason that is not printable)")
    }
}
