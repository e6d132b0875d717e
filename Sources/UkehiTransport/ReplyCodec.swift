// What native clients are told, on the wire.
//
//   replies | reply, one after the other to the end of the frame |
//   reply   | id u64 | kind u8 | 0 u8 | 0 u16 | body u32 + bytes |
//   body    | 1 command: see ResultCodec.swift    | 2 value: see ResultCodec.swift
//           | 3 scan: see ResultCodec.swift       | 4 query: the bytes
//           | 5 topology: cluster u64 u64, node u64, nodes u32 × (node u64, name, address: u32 + UTF-8),
//           |             regions u32 × region
//           | 6 digest: region u64, applied u64, high u64, low u64
//           | 7 failed: cause u8, then region | regions u32 × region | text u32 + UTF-8 | nothing
//           | 8 members: see ReplyCodec+Members.swift | 9 recovery: the bytes
//           | 10 transfers: see ReplyCodec+Transfers.swift
//           | 11 regions: regions u32 × region  | 12 loads: see ReplyCodec+Loads.swift
//   cause   | 0 outcomeUnknown | 1 notLeader: region | 2 staleEpoch: regions | 3 overloaded
//           | 4 unavailable: text | 5 invalid: text | 6 timedOut | 7 diskFull
//           | 8 sessionExpired |
//   region  | region u64 | lower u32 + bytes | upper u32 + bytes | confVersion u64 | version u64
//           | leader u64, 2^64 - 1: unknown | nodes u32 × u64 |

package import UkehiBase
package import UkehiNode
import UkehiState

package enum ReplyCodec {
    static let headerBytes = 16
    private static let noLeader = UInt64.max
    private enum Code {
        static let command: UInt8 = 1
        static let value: UInt8 = 2
        static let scan: UInt8 = 3
        static let query: UInt8 = 4
        static let topology: UInt8 = 5
        static let digest: UInt8 = 6
        static let failed: UInt8 = 7
        static let members: UInt8 = 8
        static let loads: UInt8 = 12
        static let regions: UInt8 = 11
        static let transfers: UInt8 = 10
        static let recovery: UInt8 = 9
    }
    private static let smallestRegion = 44
    private static let smallestNode = 16

    package static func encode(_ reply: Reply, id: UInt64, into writer: inout ByteWriter) {
        writer.append(id)
        writer.append(UInt32(code(of: reply)))
        let lengthAt = writer.count
        writer.append(UInt32(0))
        switch reply {
        case .command(let result): ResultCodec.encode(result, into: &writer)
        case .value(let value): ResultCodec.encode(value, into: &writer)
        case .scan(let page): ResultCodec.encode(page, into: &writer)
        case .query(let bytes), .recovery(let bytes): writer.append(bytes)
        case .topology(let topology): encode(topology, into: &writer)
        case .digest(let digest):
            writer.append(digest.region.rawValue)
            writer.append(digest.applied.rawValue)
            writer.append(digest.high)
            writer.append(digest.low)
        case .failed(let error): encode(error, into: &writer)
        case .members(let report): encode(report, into: &writer)
        case .regions(let regions): encode(regions, into: &writer)
        case .transfers(let transfers): encode(transfers, into: &writer)
        case .loads(let loads): encode(loads, into: &writer)
        }
        writer.overwrite(UInt32(writer.count - lengthAt - 4), at: lengthAt)
    }

    private static func code(of reply: Reply) -> UInt8 {
        switch reply {
        case .command: Code.command
        case .value: Code.value
        case .scan: Code.scan
        case .query: Code.query
        case .topology: Code.topology
        case .digest: Code.digest
        case .failed: Code.failed
        case .members: Code.members
        case .regions: Code.regions
        case .transfers: Code.transfers
        case .loads: Code.loads
        case .recovery: Code.recovery
        }
    }

    private static func encode(_ topology: Topology, into writer: inout ByteWriter) {
        writer.append(topology.cluster.high)
        writer.append(topology.cluster.low)
        writer.append(topology.node.rawValue)
        writer.append(UInt32(topology.nodes.count))
        for node in topology.nodes {
            writer.append(node.node.rawValue)
            writer.appendLengthPrefixed(Bytes(node.name))
            writer.appendLengthPrefixed(Bytes(node.address))
        }
        encode(topology.regions, into: &writer)
    }

    private static func encode(_ error: RequestError, into writer: inout ByteWriter) {
        guard case .rejected(let rejection) = error else {
            writer.append(UInt8(0))
            return
        }
        switch rejection {
        case .notLeader(let region):
            writer.append(UInt8(1))
            encode(region, into: &writer)
        case .staleEpoch(let regions):
            writer.append(UInt8(2))
            encode(regions, into: &writer)
        case .overloaded: writer.append(UInt8(3))
        case .unavailable(let text):
            writer.append(UInt8(4))
            writer.appendLengthPrefixed(Bytes(text))
        case .invalid(let text):
            writer.append(UInt8(5))
            writer.appendLengthPrefixed(Bytes(text))
        case .timedOut: writer.append(UInt8(6))
        case .diskFull: writer.append(UInt8(7))
        case .sessionExpired: writer.append(UInt8(8))
        case .notSplit(let refusal):
            writer.append(UInt8(9))
            writer.append(refusal.code)
            writer.append(refusal.existing?.rawValue ?? 0)
        }
    }

    private static func encode(_ regions: [RegionInfo], into writer: inout ByteWriter) {
        writer.append(UInt32(regions.count))
        for region in regions { encode(region, into: &writer) }
    }

    private static func encode(_ region: RegionInfo, into writer: inout ByteWriter) {
        writer.append(region.region.rawValue)
        writer.appendLengthPrefixed(region.range.lower)
        writer.appendLengthPrefixed(region.range.upper)
        writer.append(region.epoch.confVersion)
        writer.append(region.epoch.version)
        writer.append(region.leader?.rawValue ?? noLeader)
        writer.append(UInt32(region.nodes.count))
        for node in region.nodes { writer.append(node.rawValue) }
    }
}

extension ReplyCodec {
    /// Calls `body` with each reply of one frame; their payloads are slices of `payload`.
    package static func decode(
        _ payload: Bytes, _ body: (_ id: UInt64, Reply) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        var reader = ByteReader(payload)
        while reader.remaining > 0 {
            let id = try reader.read(UInt64.self)
            let code = try reader.read(UInt32.self)
            let length = Int(try reader.read(UInt32.self))
            var inner = ByteReader(try reader.readBytes(length))
            let reply = try decode(code, &inner)
            try inner.expectEnd()
            try body(id, reply)
        }
    }

    private static func decode(
        _ code: UInt32, _ reader: inout ByteReader
    ) throws(DecodeError) -> Reply {
        switch UInt8(exactly: code) {
        case Code.command: return .command(try ResultCodec.decodeResult(&reader))
        case Code.value: return .value(try ResultCodec.decodeValue(&reader))
        case Code.scan: return .scan(try ResultCodec.decodePage(&reader))
        case Code.query: return .query(reader.readRest())
        case Code.topology: return .topology(try topology(&reader))
        case Code.digest:
            let region = RegionID(try reader.read(UInt64.self))
            let applied = LogIndex(try reader.read(UInt64.self))
            let high = try reader.read(UInt64.self)
            return .digest(
                RegionDigest(
                    region: region, applied: applied, high: high,
                    low: try reader.read(UInt64.self)))
        case Code.failed: return .failed(try error(&reader))
        case Code.members: return .members(try members(&reader))
        case Code.regions: return .regions(try regions(&reader))
        case Code.transfers: return .transfers(try transfers(&reader))
        case Code.loads: return .loads(try loads(&reader))
        case Code.recovery: return .recovery(reader.readRest())
        default: throw reader.failure("unknown reply kind \(code)")
        }
    }

    private static func error(_ reader: inout ByteReader) throws(DecodeError) -> RequestError {
        let cause = try reader.read(UInt8.self)
        switch cause {
        case 0: return .outcomeUnknown
        case 1: return .rejected(.notLeader(try region(&reader)))
        case 2: return .rejected(.staleEpoch(current: try regions(&reader)))
        case 3: return .rejected(.overloaded)
        case 4: return .rejected(.unavailable(try text(&reader)))
        case 5: return .rejected(.invalid(try text(&reader)))
        case 6: return .rejected(.timedOut)
        case 7: return .rejected(.diskFull)
        case 8: return .rejected(.sessionExpired)
        case 9:
            let code = try reader.read(UInt8.self)
            let region = RegionID(try reader.read(UInt64.self))
            guard let refusal = SplitRefusal(code: code, existing: region) else {
                throw reader.failure("unknown reason \(code) not to divide a region")
            }
            return .rejected(.notSplit(refusal))
        default: throw reader.failure("unknown cause \(cause)")
        }
    }

    private static func topology(_ reader: inout ByteReader) throws(DecodeError) -> Topology {
        let high = try reader.read(UInt64.self)
        let cluster = ClusterID(high: high, low: try reader.read(UInt64.self))
        let node = NodeID(try reader.read(UInt64.self))
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / smallestNode else {
            throw reader.failure("\(count) nodes claimed in \(reader.remaining) bytes")
        }
        var nodes: [NodeAddress] = []
        nodes.reserveCapacity(count)
        for _ in 0..<count {
            let id = NodeID(try reader.read(UInt64.self))
            let name = try text(&reader)
            nodes.append(NodeAddress(node: id, name: name, address: try text(&reader)))
        }
        return Topology(
            cluster: cluster, node: node, nodes: nodes, regions: try regions(&reader))
    }

    private static func regions(_ reader: inout ByteReader) throws(DecodeError) -> [RegionInfo] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / smallestRegion else {
            throw reader.failure("\(count) regions claimed in \(reader.remaining) bytes")
        }
        var regions: [RegionInfo] = []
        regions.reserveCapacity(count)
        for _ in 0..<count { regions.append(try region(&reader)) }
        return regions
    }

    private static func region(_ reader: inout ByteReader) throws(DecodeError) -> RegionInfo {
        let id = RegionID(try reader.read(UInt64.self))
        let range = try range(&reader)
        let confVersion = try reader.read(UInt64.self)
        let version = try reader.read(UInt64.self)
        let leader = try reader.read(UInt64.self)
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / 8 else {
            throw reader.failure("\(count) nodes claimed in \(reader.remaining) bytes")
        }
        var nodes: [NodeID] = []
        nodes.reserveCapacity(count)
        for _ in 0..<count { nodes.append(NodeID(try reader.read(UInt64.self))) }
        return RegionInfo(
            region: id, range: range,
            epoch: RegionEpoch(confVersion: confVersion, version: version),
            leader: leader == noLeader ? nil : NodeID(leader), nodes: nodes)
    }

    static func range(_ reader: inout ByteReader) throws(DecodeError) -> KeyRange {
        let lower = try reader.readLengthPrefixed()
        let upper = try reader.readLengthPrefixed()
        guard upper.isEmpty || lower < upper else {
            throw reader.failure("a range that ends before it starts")
        }
        return KeyRange(lower: lower, upper: upper)
    }

    static func text(_ reader: inout ByteReader) throws(DecodeError) -> String {
        let bytes = try reader.readLengthPrefixed().array
        guard let text = String(validating: bytes, as: UTF8.self), isPrintable(text) else {
            throw reader.failure("a text that is not printable UTF-8")
        }
        return text
    }
}
