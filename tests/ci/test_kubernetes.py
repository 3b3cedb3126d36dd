"""The manifests in kubernetes/, put together by kustomize: valid, locked down, and every reference is right."""

import copy
import kubernetes_validate
import pytest
import subprocess
import yaml
from examples import IMAGES, ROOT

VERSIONS = ["1.30", "1.37"]  # the oldest that knows preStop's sleep, and the newest with a schema here
FOLDER = ROOT / "kubernetes"

pytestmark = pytest.mark.kubectl


@pytest.fixture(scope="module")
def manifests() -> list[dict]:
    built = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, check=True)
    assert built.stderr == ""  # such as: a field is deprecated
    return list(yaml.safe_load_all(built.stdout))


def named(manifests: list[dict], kind: str) -> dict[str, dict]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_valid(manifests, version):
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_not_valid(manifests):
    wrong = copy.deepcopy(next(iter(named(manifests, "Deployment").values())))
    wrong["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_few_rights(manifests):
    """The pods have these keys and no others: a new one, such as a volume, must be added here on purpose."""
    for deployment in named(manifests, "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        # no volumes, no namespaces of the host, no init containers, no service account
        assert set(pod) == {
            "automountServiceAccountToken",
            "containers",
            "securityContext",
            "terminationGracePeriodSeconds",
            "topologySpreadConstraints",
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        (container,) = pod["containers"]
        # no command of its own. No pull policy: tags never move, and a pod restarts even if the registry is down
        probes = {"startupProbe", "readinessProbe", "livenessProbe"}
        assert set(container) == probes | {"name", "image", "ports", "env", "resources", "securityContext", "lifecycle"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["ports"] == [{"name": "http", "containerPort": 5000}]  # no port of the host
        assert all(set(setting) == {"name", "value"} for setting in container["env"])  # no secret
        assert {kind: set(each) for kind, each in container["resources"].items()} == {
            "requests": {"cpu", "memory"},
            "limits": {"cpu", "memory"},
        }
        for probe in probes:
            assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    for name, policy in named(manifests, "NetworkPolicy").items():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert "egress" not in policy["spec"]  # nothing is let out
        if name == "batch":  # it answers nobody
            assert "ingress" not in policy["spec"]
            continue
        ((ports, sources),) = [(rule["ports"], rule["from"]) for rule in policy["spec"]["ingress"]]
        assert ports == [{"port": "http"}]
        assert [set(source) for source in sources] == [{"podSelector"}, {"namespaceSelector"}]
    labels = named(manifests, "Namespace")["examples"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "annotations" not in named(manifests, "Ingress")["examples"]["metadata"]  # no snippets of nginx's code


def test_one_of_each_for_each_example(manifests):
    apps = {f"{example.replace('_', '-')}-app" for example in IMAGES}
    kinds = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    for kind in kinds:
        assert set(named(manifests, kind)) == apps | ({"batch"} if kind == "NetworkPolicy" else set())
    others = {"Namespace", "Ingress", "CronJob"}
    assert {manifest["kind"] for manifest in manifests} == kinds | others  # no roles, no other pods
    for manifest in manifests:
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "examples"


def test_the_nightly_job(manifests):
    """It has as few rights as the services, gets none of their requests, and does not run before a reader wants it."""
    (job,) = named(manifests, "CronJob").values()
    assert job["spec"]["suspend"] is True
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    template = job["spec"]["jobTemplate"]["spec"]["template"]
    pod = template["spec"]
    keys = {"automountServiceAccountToken", "containers", "restartPolicy", "securityContext", "volumes"}
    assert set(pod) == keys | {"terminationGracePeriodSeconds"}
    assert pod["automountServiceAccountToken"] is False
    service = named(manifests, "Deployment")["simple-ml-app"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == service["securityContext"] | {"fsGroup": 10001}
    (container,) = pod["containers"]
    assert set(container) == {"name", "image", "command", "resources", "securityContext", "volumeMounts"}
    assert container["image"] == service["containers"][0]["image"]
    assert container["securityContext"] == service["containers"][0]["securityContext"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
    assert set(volume) == {"name", "persistentVolumeClaim"}
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/data")
    labels = template["metadata"]["labels"]
    assert named(manifests, "NetworkPolicy")["batch"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    for each in named(manifests, "Service").values():
        assert not each["spec"]["selector"].items() <= labels.items()


def test_references_are_right(manifests):
    deployments, services = named(manifests, "Deployment"), named(manifests, "Service")
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]
        selectors = [
            deployment["spec"]["selector"]["matchLabels"],
            services[name]["spec"]["selector"],
            named(manifests, "PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"],
            named(manifests, "NetworkPolicy")[name]["spec"]["podSelector"]["matchLabels"],
            *(each["labelSelector"]["matchLabels"] for each in pod["spec"]["topologySpreadConstraints"]),
        ]
        assert all(selector == pod["metadata"]["labels"] for selector in selectors)  # its own pods, and no others
        scaled = named(manifests, "HorizontalPodAutoscaler")[name]["spec"]["scaleTargetRef"]
        assert (scaled["kind"], scaled["name"]) == ("Deployment", name)
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[services[name]["spec"]["ports"][0]["targetPort"]] == 5000
    backends = [
        path["backend"]["service"]
        for rule in named(manifests, "Ingress")["examples"]["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert {backend["name"] for backend in backends} == set(services)
    for backend in backends:
        assert backend["port"]["name"] in [port["name"] for port in services[backend["name"]]["spec"]["ports"]]


def test_the_same_as_in_the_image_and_in_compose(manifests):
    """Image, user, workers and limits are in several files: they say the same."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for example, tag in IMAGES.items():
        pod = named(manifests, "Deployment")[f"{example.replace('_', '-')}-app"]["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert container["image"] == f"registry.example.com/team/{tag}:1.0"
        user = f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n"
        assert user in (ROOT / example / "Dockerfile").read_text()
        limits = compose[example]["deploy"]["resources"]["limits"]
        assert container["resources"]["limits"] == {"cpu": limits["cpus"], "memory": f"{limits['memory']}i"}
        settings = {setting["name"]: f"${{{setting['name']}:-{setting['value']}}}" for setting in container["env"]}
        assert compose[example]["environment"] == settings | {
            "GRANIAN_WORKERS": "${GRANIAN_WORKERS:-2}",  # in Kubernetes, the setting of the image holds
            "GRANIAN_LOG_ACCESS_ENABLED": "${GRANIAN_LOG_ACCESS_ENABLED:-false}",  # and of these, the default
            "PREDICTION_LOG": "${PREDICTION_LOG:-0}",
            "PREDICT_TIMEOUT": "${PREDICT_TIMEOUT:-60}",
        }
