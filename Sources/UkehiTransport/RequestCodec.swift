// What native clients ask, on the wire.
//
//   requests  | count u32 | request × count |
//   request   | id u64 | deadline u64 | operation u8 | flags u8 | read mode u8 | 0 u8 | key u32 + bytes
//             | region u64, confVersion u64, version u64, if flags & 1
//             | what the operation needs |
//   deadline  | microseconds from now after which the client no longer waits; 0: none |
//   operation | 1 write: record u32 + bytes  | 2 get
//             | 3 scan: upper u32 + bytes, limit u32 | 4 query: u32 + bytes | 5 topology | 6 digest
//             | 7 members: region u64, ask u32, nodes u32 × u64 | 8 recovery: u32 + bytes
//             | 9 transfers | 10 split: keys u32 × (u32 + bytes)
//             | 11 loads: region u64, 0: the hottest; top u32 |
//   ask       | 0 report | 1 plan | 2 set | 3 transfer: one node |
//
// The command record of a write, which also says its session, is not looked into here. Ids are the client's, given back with the
// reply; replies come in any order.

package import UkehiBase
package import UkehiNode

/// One request as it travels.
package struct WireRequest: Sendable {
    package var id: UInt64
    /// 0: none.
    package var deadlineMicroseconds: UInt64
    package var operation: ClientOperation
    package var key: Bytes
    package var expected: (region: RegionID, epoch: RegionEpoch)?

    package init(
        id: UInt64, deadlineMicroseconds: UInt64 = 0, operation: ClientOperation, key: Bytes,
        expected: (region: RegionID, epoch: RegionEpoch)? = nil
    ) {
        self.id = id
        self.deadlineMicroseconds = deadlineMicroseconds
        self.operation = operation
        self.key = key
        self.expected = expected
    }
}

package enum RequestCodec {
    static let fixedBytes = 24
    private enum Code {
        static let write: UInt8 = 1
        static let get: UInt8 = 2
        static let scan: UInt8 = 3
        static let query: UInt8 = 4
        static let topology: UInt8 = 5
        static let digest: UInt8 = 6
        static let members: UInt8 = 7
        static let loads: UInt8 = 11
        static let split: UInt8 = 10
        static let transfers: UInt8 = 9
        static let recovery: UInt8 = 8
    }
    private static let hasExpected: UInt8 = 1

    /// Encoded bytes.
    package static func bytes(of request: WireRequest) -> Int {
        var total = fixedBytes + request.key.count
        if request.expected != nil { total += 24 }
        switch request.operation {
        case .write(let record): total += 4 + record.count
        case .scan(let upper, _, _): total += 8 + upper.count
        case .query(let body, _), .recovery(let body): total += 4 + body.count
        case .split(let keys): total += keys.reduce(4) { $0 + 4 + $1.count }
        case .members(_, let ask): total += 16 + 8 * parts(of: ask).nodes.count
        case .loads: total += 12
        case .get, .topology, .digest, .transfers: break
        }
        return total
    }

    package static func encode(_ request: WireRequest, into writer: inout RawWriter) {
        writer.put(request.id)
        writer.put(request.deadlineMicroseconds)
        let (code, mode) = header(of: request.operation)
        writer.put(code)
        writer.put(request.expected == nil ? UInt8(0) : hasExpected)
        writer.put(mode.rawValue)
        writer.put(UInt8(0))
        writer.putLengthPrefixed(request.key)
        if let expected = request.expected {
            writer.put(expected.region.rawValue)
            writer.put(expected.epoch.confVersion)
            writer.put(expected.epoch.version)
        }
        switch request.operation {
        case .write(let record): writer.putLengthPrefixed(record)
        case .scan(let upper, let limit, _):
            writer.putLengthPrefixed(upper)
            writer.put(UInt32(clamping: limit))
        case .query(let body, _), .recovery(let body): writer.putLengthPrefixed(body)
        case .split(let keys):
            writer.put(UInt32(keys.count))
            for key in keys { writer.putLengthPrefixed(key) }
        case .members(let region, let ask):
            let (code, nodes) = parts(of: ask)
            writer.put(region.rawValue)
            writer.put(code)
            writer.put(UInt32(nodes.count))
            for node in nodes { writer.put(node.rawValue) }
        case .loads(let question):
            writer.put(question.region?.rawValue ?? 0)
            writer.put(UInt32(clamping: question.top))
        case .get, .topology, .digest, .transfers: break
        }
    }

    private static func parts(of ask: MemberRequest) -> (code: UInt32, nodes: [NodeID]) {
        switch ask {
        case .report: (0, [])
        case .plan(let nodes): (1, nodes)
        case .set(let nodes): (2, nodes)
        case .transfer(let node): (3, [node])
        }
    }

    private static func members(_ reader: inout ByteReader) throws(DecodeError) -> ClientOperation {
        let region = RegionID(try reader.read(UInt64.self))
        let code = try reader.read(UInt32.self)
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / 8 else {
            throw reader.failure("\(count) nodes claimed in \(reader.remaining) bytes")
        }
        var nodes: [NodeID] = []
        nodes.reserveCapacity(count)
        for _ in 0..<count { nodes.append(NodeID(try reader.read(UInt64.self))) }
        switch code {
        case 0 where nodes.isEmpty: return .members(region, .report)
        case 1: return .members(region, .plan(nodes))
        case 2: return .members(region, .set(nodes))
        case 3 where nodes.count == 1: return .members(region, .transfer(nodes[0]))
        default: throw reader.failure("unknown question \(code) about members")
        }
    }

    private static func header(of operation: ClientOperation) -> (code: UInt8, mode: ReadMode) {
        switch operation {
        case .write: (Code.write, .linearizable)
        case .get(let mode): (Code.get, mode)
        case .scan(_, _, let mode): (Code.scan, mode)
        case .query(_, let mode): (Code.query, mode)
        case .topology: (Code.topology, .stale)
        case .digest: (Code.digest, .stale)
        case .members: (Code.members, .linearizable)
        case .split: (Code.split, .linearizable)
        case .transfers: (Code.transfers, .stale)
        case .loads: (Code.loads, .stale)
        case .recovery: (Code.recovery, .stale)
        }
    }

    /// Calls `body` with each request of one frame; their payloads are slices of `payload`.
    package static func decode(
        _ payload: Bytes, _ body: (WireRequest, _ bytes: Int) -> Void
    ) throws(DecodeError) {
        var reader = ByteReader(payload)
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / fixedBytes else {
            throw reader.failure("\(count) requests claimed in \(reader.remaining) bytes")
        }
        for _ in 0..<count {
            let start = reader.offset
            let request = try decodeOne(&reader)
            body(request, reader.offset - start)
        }
        try reader.expectEnd()
    }

    private static func decodeOne(_ reader: inout ByteReader) throws(DecodeError) -> WireRequest {
        let id = try reader.read(UInt64.self)
        let deadline = try reader.read(UInt64.self)
        let code = try reader.read(UInt8.self)
        let flags = try reader.read(UInt8.self)
        let rawMode = try reader.read(UInt8.self)
        guard let mode = ReadMode(rawValue: rawMode) else {
            throw reader.failure("unknown read mode \(rawMode)")
        }
        guard flags & ~hasExpected == 0, try reader.read(UInt8.self) == 0 else {
            throw reader.failure("unknown request flags")
        }
        let key = try reader.readLengthPrefixed()
        var expected: (RegionID, RegionEpoch)?
        if flags & hasExpected != 0 {
            let region = RegionID(try reader.read(UInt64.self))
            let confVersion = try reader.read(UInt64.self)
            expected = (
                region,
                RegionEpoch(confVersion: confVersion, version: try reader.read(UInt64.self))
            )
        }
        return WireRequest(
            id: id, deadlineMicroseconds: deadline,
            operation: try operation(code, mode, &reader), key: key, expected: expected)
    }

    private static func operation(
        _ code: UInt8, _ mode: ReadMode, _ reader: inout ByteReader
    ) throws(DecodeError) -> ClientOperation {
        switch code {
        case Code.write: return .write(record: try reader.readLengthPrefixed())
        case Code.get: return .get(mode)
        case Code.scan:
            let upper = try reader.readLengthPrefixed()
            return .scan(upper: upper, limit: Int(try reader.read(UInt32.self)), mode)
        case Code.query: return .query(try reader.readLengthPrefixed(), mode)
        case Code.topology: return .topology
        case Code.digest: return .digest
        case Code.members: return try members(&reader)
        case Code.split:
            let count = Int(try reader.read(UInt32.self))
            guard count <= reader.remaining / 4 else {
                throw reader.failure("\(count) keys claimed in \(reader.remaining) bytes")
            }
            var keys: [Bytes] = []
            for _ in 0..<count { keys.append(try reader.readLengthPrefixed()) }
            return .split(keys)
        case Code.transfers: return .transfers
        case Code.loads:
            let region = try reader.read(UInt64.self)
            return .loads(
                LoadQuestion(
                    region: region == 0 ? nil : RegionID(region),
                    top: Int(try reader.read(UInt32.self))))
        case Code.recovery: return .recovery(try reader.readLengthPrefixed())
        default: throw reader.failure("unknown operation \(code)")
        }
    }
}
