import Testing
import Ukehi
import UkehiBase
import UkehiNode

@testable import UkehiCommand

@Suite("Command line: load")
struct LoadTextTests {
    private static let names = NodeNames(
        topology: Topology(
            cluster: ClusterID(high: 1, low: 2), node: NodeID(1),
            nodes: [NodeAddress(node: NodeID(1), name: "n-1", address: "h:1")], regions: []))
    private static let hot = RegionLoadInfo(
        region: RegionID(7), range: KeyRange(lower: "a", upper: ""), readsPerSecond: 12_000,
        writesPerSecond: 3000, bytesPerSecond: 2048, sizeBytes: 3 << 20,
        hot: [
            HotRange(first: "k\u{1}", last: "k\u{1}", readShare: 0.5, writeShare: 0.25),
            HotRange(first: "l", last: "m", readShare: 0, writeShare: 0.25),
        ],
        refusals: [
            SplitRefusalInfo(
                cause: .load, reason: "One key takes 75 % of the load.", secondsAgo: 12),
            SplitRefusalInfo(cause: .size, reason: "Too few keys.", secondsAgo: 300),
        ])
    private static let unknown = RegionLoadInfo(
        region: RegionID(8), range: .all, readsPerSecond: 0, writesPerSecond: 0.5,
        bytesPerSecond: 0, sizeBytes: nil, hot: [], refusals: [])

    private func lines(json: Bool) -> [String] {
        LoadText.lines(
            [Self.hot, Self.unknown], [RegionID(7): NodeID(1)], Self.names, json: json)
    }

    @Test("a line for each region, its parts below it, keys escaped")
    func table() throws {
        let lines = lines(json: false)
        #expect(lines.count == 7)
        #expect(lines[1].contains("n-1") && lines[1].contains("15000"))
        #expect(
            lines[2].hasSuffix(
                "  not split for its load, 12 s ago: One key takes 75 % of the load."))
        #expect(lines[3].hasSuffix("  not split for its size, 300 s ago: Too few keys."))
        #expect(lines[4].hasSuffix("   75 %   50 %    25 %  k\\x01 alone"))
        #expect(lines[5].hasSuffix("   25 %    0 %    25 %  l to m"))
        #expect(lines[6].contains("unknown"))
    }

    @Test("one JSON object for each region")
    func json() throws {
        let lines = lines(json: true)
        #expect(lines.count == 2)
        #expect(lines[0].contains("\"first\":\"k\\\\x01\""))
        #expect(lines[0].contains("\"size_bytes\":3145728"))
        #expect(lines[1].contains("\"size_bytes\":null") && lines[1].contains("\"hot\":[]"))
        #expect(lines[0].contains("\"share\":0.75,\"read_share\":0.5,\"write_share\":0.25"))
        #expect(
            lines[0].contains(
                "\"refusals\":[{\"of\":\"load\",\"reason\":\"One key takes 75 % of the load.\",\"seconds_ago\":12}"
            ))
        #expect(lines[1].contains("\"refusals\":[]"))
    }

    @Test("below one region, or that nobody knows")
    func one() {
        #expect(LoadText.lines(Self.hot).count == 6)
        #expect(
            LoadText.lines(Self.hot)[2]
                == "not split for its load, 12 s ago: One key takes 75 % of the load.")
        #expect(
            LoadText.lines(Self.hot)[4]
                == "  75 % of the load (50 % reads, 25 % writes): k\\x01 alone")
        #expect(LoadText.lines(nil).count == 1)
    }
}

@Suite("Command line: names of nodes")
struct NodeNamesTests {
    @Test("a node that is called like another one's id is the one that is called so")
    func names() throws {
        func address(_ id: UInt64, _ name: String) -> NodeAddress {
            NodeAddress(node: NodeID(id), name: name, address: "h:\(id)")
        }
        let region = RegionInfo(
            region: RegionID(2), range: .all, epoch: RegionEpoch(confVersion: 1, version: 1),
            leader: nil, nodes: [NodeID(1), NodeID(2), NodeID(7)])
        let names = NodeNames(
            topology: Topology(
                cluster: ClusterID(high: 1, low: 2), node: NodeID(1),
                nodes: [address(1, "n0"), address(2, "n1"), address(40, "n4")],
                regions: [region]))
        #expect(try names.pastNode("n1") == NodeID(2) && names.node("n1") == NodeID(2))
        #expect(try names.pastNode("n4") == NodeID(40))
        #expect(try names.pastNode("n2") == NodeID(2) && names.pastNode("1") == NodeID(1))
        // One that regions still count on though it is no node any more, and one that nobody knows.
        #expect(try names.pastNode("n7") == NodeID(7))
        #expect(throws: (any Error).self) { try names.pastNode("n9") }
        #expect(try names.pastNode("n9", mayBeForgotten: true) == NodeID(9))
        #expect(throws: (any Error).self) { try names.pastNode("n") }
    }
}
