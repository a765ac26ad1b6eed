"""What tools ask of a cluster at their start."""


def api_versions(world):
    version = world.version("ApiVersions")
    body = {}
    if version >= 3:
        body = {"ClientSoftwareName": "differential", "ClientSoftwareVersion": "1.0"}
        if world.chance(0.2):
            body["ClientSoftwareName"] = world.random.choice(("", "-x", "a b"))
    world.ask("ApiVersions", body, version)


def describe_cluster(world):
    version = world.version("DescribeCluster")
    body = {"IncludeClusterAuthorizedOperations": world.chance(0.5)}
    if version >= 1:
        body["EndpointType"] = world.random.choice((1, 1, 1, 3))
    if version >= 2:
        body["IncludeFencedBrokers"] = world.chance(0.5)
    world.ask("DescribeCluster", body, version)


def reassignments(world):
    topics = world.random.choice((None, [], [{"Name": world.some_topic().name, "PartitionIndexes": [0, 9]}],
                                  [{"Name": world.prefix + "gone", "PartitionIndexes": [0]}]))
    world.ask("ListPartitionReassignments", {"Topics": topics, "TimeoutMs": 5000})


def elect_leaders(world):
    version = world.version("ElectLeaders")
    topic = world.some_topic()
    rows = world.random.choice(([{"Topic": topic.name, "Partitions": [0]}],
                                [{"Topic": topic.name, "Partitions": [0, 99]}],
                                [{"Topic": world.prefix + "gone", "Partitions": [0]}], [], None))
    body = {"TopicPartitions": rows, "TimeoutMs": 5000}
    if version >= 1:
        body["ElectionType"] = world.random.choice((0, 0, 1))
    world.ask("ElectLeaders", body, version)


def acls(world):
    body = {"ResourceTypeFilter": world.random.choice((1, 2)), "ResourceNameFilter": None, "PrincipalFilter": None,
            "HostFilter": None, "Operation": 1, "PermissionType": 1}
    world.ask("DescribeAcls", body)
    acl = {"ResourceType": 2, "ResourceName": "x", "ResourcePatternType": 3, "Principal": "User:alice", "Host": "*",
           "Operation": 3, "PermissionType": 3}
    world.ask("CreateAcls", {"Creations": [acl] * world.random.randrange(3)})
    pattern = {"ResourceTypeFilter": 2, "ResourceNameFilter": None, "PatternTypeFilter": 1, "PrincipalFilter": None,
               "HostFilter": "*", "Operation": 1, "PermissionType": 1}
    world.ask("DeleteAcls", {"Filters": [pattern] * world.random.randrange(3)})


def quotas(world):
    components = world.random.choice(([], [{"EntityType": "user", "MatchType": 2, "Match": None}],
                                      [{"EntityType": "client-id", "MatchType": 0, "Match": "x"}],
                                      [{"EntityType": "shoe", "MatchType": 2, "Match": None}],
                                      [{"EntityType": "user", "MatchType": 7, "Match": None}]))
    world.ask("DescribeClientQuotas", {"Components": components, "Strict": world.chance(0.5)})


def scram_users(world):
    users = world.random.choice((None, [], ["alice"], ["alice", "bob"], ["alice", "bob", "alice"], ["", ""]))
    world.ask("DescribeUserScramCredentials", {"Users": users and [{"Name": name} for name in users]})


def log_dirs(world):
    topic = world.some_topic()
    topics = world.random.choice(([{"Topic": topic.name, "Partitions": list(range(topic.partitions))}],
                                  [{"Topic": topic.name, "Partitions": [0]}],
                                  [{"Topic": world.prefix + "gone", "Partitions": [0]}], []))
    world.ask("DescribeLogDirs", {"Topics": topics})


def quorum(world):
    name, partition = world.random.choice((("__cluster_metadata", 0), ("__cluster_metadata", 1), ("other", 0)))
    world.ask("DescribeQuorum", {"Topics": [{"TopicName": name, "Partitions": [{"PartitionIndex": partition}]}]})


ACTIONS = ((api_versions, 2), (describe_cluster, 2), (reassignments, 1), (elect_leaders, 2), (acls, 1), (quotas, 1),
           (scram_users, 1), (log_dirs, 2), (quorum, 1))
